"""Latency tables of this machine, layer signatures, and bytes of a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from subbyte import Artifact, save
from subbyte.device import Host, artifact_bytes, layers, node_bytes
from subbyte.device.cache import cache_folder, engine_version, read_json, write_json
from subbyte.device.target import reads, weights_of
from subbyte.errors import InputError
from subbyte.execute.native import Session
from subbyte.quant.format import INT8, UINT8
from tests.fuzz.graphs import seeds

ARTIFACTS = seeds()


@pytest.mark.parametrize("name", sorted(ARTIFACTS))
def test_nodes_and_files_have_the_bytes_that_are_written(name: str, tmp_path: Path) -> None:
    artifact = ARTIFACTS[name]
    path = tmp_path / "a.subbyte"
    save(path, artifact)
    assert artifact_bytes(artifact) == path.stat().st_size
    # all parameters and nothing else lie in the tensors beside the graph's description
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        stored = sum(file.get_tensor(key).nbytes for key in file.keys() if key != "graph")  # noqa: SIM118
    assert sum(map(node_bytes, artifact.graph.nodes)) == stored


def mixed() -> Artifact:
    return ARTIFACTS["mixed"]


def test_a_host_measures_and_remembers(tmp_path: Path) -> None:
    graph = mixed().graph
    host = Host(cache=tmp_path)
    assert not host.knows(graph)
    host.prepare({"mixed": graph})
    assert host.knows(graph)
    again = Host(cache=tmp_path)
    assert again.milliseconds == host.milliseconds
    assert again.knows(graph)
    for name, layer in layers(graph).items():
        node = graph.node(name)
        cost = again.cost(layer, weights_of(node), reads(graph, node))
        assert cost.time >= 0.0
        assert cost.moved > 0
        assert cost.energy is None
    assert len(Session(graph).plan()) <= len(graph.nodes)


def test_a_table_of_a_busy_machine_is_measured_again(tmp_path: Path) -> None:
    graph = mixed().graph
    host = Host(cache=tmp_path)
    host.prepare({"mixed": graph})
    kept = dict(host.milliseconds)
    host.prepare({"mixed": graph, "again": graph})
    # another program may slow the machine down meanwhile, which is no reason to measure
    assert host.milliseconds.keys() == kept.keys()
    slow = {layer: {bits: 1e4 + ms for bits, ms in row.items()} for layer, row in kept.items()}
    write_json(host.path, slow)  # type: ignore[arg-type]
    again = Host(cache=tmp_path)
    assert again.total(graph) > 1e4
    again.prepare({"mixed": graph})
    assert again.total(graph) < 1e4
    assert Host(cache=tmp_path).milliseconds == again.milliseconds


def test_nothing_is_kept_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    host = Host(keep=False)
    host.prepare({"mixed": mixed().graph})
    assert host.knows(mixed().graph)
    assert not list(tmp_path.iterdir())
    assert cache_folder() == tmp_path / "subbyte"


def test_another_isa_is_another_table(tmp_path: Path) -> None:
    assert Host(isa="portable", cache=tmp_path).path != Host(cache=tmp_path, threads=2).path


def test_an_unmeasured_layer_is_an_error(tmp_path: Path) -> None:
    layer = next(iter(layers(mixed().graph).values()))
    with pytest.raises(InputError, match="has not been measured"):
        Host(cache=tmp_path).cost(layer, INT8, UINT8)


def test_signatures_tell_layers_apart() -> None:
    for artifact in ARTIFACTS.values():
        found = layers(artifact.graph)
        by_text: dict[str, object] = {}
        for layer in found.values():
            assert by_text.setdefault(layer.signature, layer) == layer


def test_a_damaged_or_unwritable_cache_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    assert read_json(tmp_path / "x.json") == {}
    (tmp_path / "file").write_text("")
    write_json(tmp_path / "file" / "x.json", {"a": {"8": 1.0}})
    assert len(engine_version()) == 16
