"""Latency tables of this machine, layer signatures, and bytes of a file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from subbyte import Artifact, save
from subbyte.device import TARGETS, Host, Layer, Memory, artifact_bytes, find_target, layers, node_bytes
from subbyte.device.cache import cache_folder, engine_version, read_json, write_json
from subbyte.device.conversion import conversion_time, conversions
from subbyte.device.profile import profiles, read_profile
from subbyte.device.roofline import Roofline
from subbyte.device.target import reads
from subbyte.errors import InputError
from subbyte.execute.native import Session
from subbyte.ir import verify
from subbyte.ir.graph import weights_of
from subbyte.ir.limits import peak_live_bytes
from subbyte.quant import activation_format, weight_format
from subbyte.quant.format import FP32, INT8, UINT8
from subbyte.system.toml import parse_toml
from tests.fuzz.graphs import seeds

ARTIFACTS = seeds()


@pytest.mark.parametrize("name", sorted(ARTIFACTS))
def test_nodes_and_files_have_the_bytes_that_are_written(name: str, tmp_path: Path) -> None:
    artifact = ARTIFACTS[name]
    path = tmp_path / "a.subbyte"
    save(path, artifact)
    assert artifact_bytes(artifact) == path.stat().st_size
    if artifact.coding is not None:
        return  # parameters that are coded take fewer bytes than in memory
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


def test_a_roofline_is_the_longer_of_work_and_traffic() -> None:
    target = find_target("raspberry-pi-5")
    layer = Layer(
        "conv2d", (3, 3), (1, 1), 1, (8, 8, 16), (8, 8, 32), "clamp", False, False, (32, 3, 3, 16), 1024
    )
    assert layer.macs == 8 * 8 * 32 * 3 * 3 * 16
    cost, narrow = (target.cost(layer, weight_format(bits), UINT8) for bits in (8, 2))
    # inputs and output a byte each; 4608 weights of 1 byte or a quarter, 32 scales of 4
    assert (cost.moved, narrow.moved) == (1024 + 2048 + 4608 + 128, 1024 + 2048 + 1152 + 128)
    assert cost.time == narrow.time == pytest.approx(1e3 * layer.macs / 76.8e9)  # work is the longer
    assert cost.energy == pytest.approx((0.3 * layer.macs + 162.5 * cost.moved) * 1e-9)
    assert target.cost(layer, FP32, FP32).moved == 4 * (1024 + 2048 + 4608)
    add = Layer("add", (1, 1), (1, 1), 1, (8, 8, 16), (8, 8, 16), "none", False, False, None, 2048)
    assert target.cost(add, None, UINT8).moved == 3072
    assert target.cost(add, None, UINT8).time == pytest.approx(1e3 * 3072 / 17.07e9)
    assert not target.supports(layer, INT8, activation_format(4))
    with pytest.raises(InputError, match="does not run int8 on uint4 activations"):
        target.cost(layer, INT8, activation_format(4))


def test_memory_is_that_of_the_device() -> None:
    graph = mixed().graph
    session = Session(graph)
    assert Host(keep=False).memory(graph) == Memory(session.arena_bytes, session.weight_bytes)
    expected = Memory(peak_live_bytes(graph), sum(map(node_bytes, graph.nodes)))
    assert find_target("raspberry-pi-5").memory(graph) == expected


@pytest.mark.parametrize("name", profiles())
def test_every_figure_of_a_profile_has_its_source(name: str) -> None:
    if not isinstance(read_profile(name), Roofline):
        return  # the reader of any other kind demands it: test_npu.py
    found = parse_toml((resources.files("subbyte.device") / "profiles" / f"{name}.toml").read_text("utf-8"))
    for table in (found["memory"], *found["weights"].values()):
        figures = {key for key, value in table.items() if isinstance(value, float)}
        assert figures
        assert {key for key, value in table.items() if isinstance(value, str) and value} == {
            f"{figure}_source" for figure in figures
        }


def test_the_table_of_devices() -> None:
    assert list(TARGETS) == ["host", *profiles()]
    assert find_target("host").here
    assert not find_target("raspberry-pi-5").here


def test_conversions_are_measured_and_bounded(tmp_path: Path) -> None:
    """On a host, by their shape; on a roofline with both sides as float32."""
    host, shape = Host(cache=tmp_path), (5, 6, 7)
    with pytest.raises(InputError, match="has not been measured"):
        conversion_time(host, "quantize", shape)
    host.prepare({"conversions": verify(conversions(shape))})
    for op in ("quantize", "dequantize"):
        known = host.milliseconds[layers(conversions(shape))[op].signature]
        assert conversion_time(host, op, shape) == known["none"] >= 0.0
    pi = find_target("raspberry-pi-5")
    moved = 4 * 2 * 5 * 6 * 7  # bytes, at 17.07 GB/s
    assert conversion_time(pi, "quantize", shape) == pytest.approx(1e3 * moved / 17.07e9)
