"""What is saved is what is loaded, byte for byte, at the width it is meant to have."""

from __future__ import annotations

import bz2
import json
import random
import struct
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from subbyte.artifact import Artifact, load, save
from subbyte.artifact.artifact import check_artifact
from subbyte.artifact.file import serialize
from subbyte.errors import ArtifactError
from subbyte.execute.reference import run
from subbyte.ir import ACTIVATIONS
from subbyte.quant import QTensor
from subbyte.quant.pattern import DENSE
from tests.fuzz.builder import PARAMETRIC, Builder
from tests.fuzz.graphs import quantized, random_graph, seeds, wrap
from tests.unit.artifact.compare import same_array, same_artifact, same_param

# a file is overwritten by each example, which is what is wanted
reuse_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def check(artifact: Artifact, path: Path) -> Artifact:
    """What loads is what was written, and would be written again the same."""
    first = b"".join(serialize(check_artifact(artifact)))
    path.write_bytes(first)
    loaded = load(path)
    assert same_artifact(loaded, artifact)
    assert b"".join(serialize(check_artifact(loaded))) == first
    return loaded


def test_save_writes_these_bytes(tmp_path: Path) -> None:
    for artifact in seeds().values():
        save(tmp_path / "a.subbyte", artifact)
        assert (tmp_path / "a.subbyte").read_bytes() == b"".join(serialize(artifact))


@pytest.mark.parametrize("name", sorted(seeds()))
def test_every_kind_of_graph(name: str, tmp_path: Path) -> None:
    artifact = seeds()[name]
    loaded = check(artifact, tmp_path / "a.subbyte")
    x = np.random.default_rng(0).normal(size=(2, *artifact.graph.value("image").shape)).astype(np.float32)
    before, after = run(artifact.graph, x), run(loaded.graph, x)
    assert all(np.array_equal(before[key], after[key]) for key in before)


@reuse_folder
@given(rng=st.randoms(use_true_random=False))
def test_random_graphs(rng: random.Random, tmp_path: Path) -> None:
    check(wrap(random_graph(rng)), tmp_path / "a.subbyte")


plain_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
names = st.text(min_size=1, max_size=256).filter(str.isprintable)


@settings(reuse_folder, max_examples=30)
@given(
    recipe=st.dictionaries(st.text(), plain_json, max_size=3),
    provenance=st.dictionaries(st.text(), plain_json, max_size=3),
    classes=st.none() | st.lists(names, min_size=10, max_size=10).map(tuple),
    mean=st.tuples(*[st.floats(-1e3, 1e3)] * 3),
)
def test_random_metadata(
    recipe: dict[str, Any], provenance: dict[str, Any], classes: Any, mean: Any, tmp_path: Path
) -> None:
    artifact = seeds()["quantized4"]
    preprocessing = replace(artifact.preprocessing, mean=mean)
    check(Artifact(artifact.graph, recipe, preprocessing, classes, provenance), tmp_path / "a.subbyte")


@given(st.lists(st.floats(width=32, min_value=2.0**-40, max_value=2.0**-5), min_size=12, max_size=12))
def test_scales_survive_exactly(scales: list[float]) -> None:
    graph = quantized(random.Random(1), 4)
    node = graph.nodes[-3]
    weight = node.params["weight"]
    assert isinstance(weight, QTensor)
    scaled = replace(weight, scale=np.array(scales, np.float32))
    data = b"".join(
        serialize(
            wrap(
                replace(
                    graph,
                    nodes=tuple(
                        n.with_(params={**n.params, "weight": scaled}) if n is node else n
                        for n in graph.nodes
                    ),
                )
            )
        )
    )
    assert struct.pack("<12f", *scales) in data


def test_the_order_of_dicts_does_not_matter(tmp_path: Path) -> None:
    artifact = seeds()["mixed"]
    graph = artifact.graph
    shuffled = replace(
        graph,
        values=dict(reversed(list(graph.values.items()))),
        nodes=tuple(
            n.with_(
                attrs=dict(reversed(list(n.attrs.items()))), params=dict(reversed(list(n.params.items())))
            )
            for n in graph.nodes
        ),
    )
    other = replace(artifact, graph=shuffled, recipe=dict(reversed(artifact.recipe.items())))
    assert b"".join(serialize(other)) == b"".join(serialize(artifact))


def test_strided_and_read_only_arrays_are_saved_by_value(tmp_path: Path) -> None:
    graph = seeds()["real"].graph
    node = graph.nodes[0]
    weight = np.asfortranarray(node.params["weight"])
    weight.flags.writeable = False
    nodes = (node.with_(params={**node.params, "weight": weight}), *graph.nodes[1:])
    loaded = check(wrap(replace(graph, nodes=nodes)), tmp_path / "a.subbyte")
    assert same_param(loaded.graph.nodes[0].params["weight"], weight)


@pytest.mark.parametrize("name", ["middle", "compact_mixed"])
def test_loaded_arrays_are_aligned_and_writable(name: str, tmp_path: Path) -> None:
    save(tmp_path / "a.subbyte", seeds()[name])
    for node in load(tmp_path / "a.subbyte").graph.nodes:
        for param in node.params.values():
            for array in (param.codes, param.scale) if isinstance(param, QTensor) else (param,):
                assert array.flags.aligned
                assert array.flags.writeable
                assert array.flags.c_contiguous


def test_weights_take_their_true_width(tmp_path: Path) -> None:
    """The bytes of each dtype are those of tables, codes, scales, biases and code books, no more."""
    for artifact in (artifact for artifact in seeds().values() if artifact.coding == "fixed"):
        save(tmp_path / "a.subbyte", artifact)
        wanted: Counter[str] = Counter()
        for node in artifact.graph.nodes:
            for param in node.params.values():
                if isinstance(param, QTensor):
                    if param.format.pattern == DENSE:
                        for plane in (2, 1) if param.bits == 3 else (param.bits,):
                            wanted["uint8"] += -(-param.codes.size * plane // 8)
                    else:
                        wanted["uint8"] += param.format.packed_bytes(param.shape)
                    wanted["float32"] += 4 * param.shape[0]
                    wanted["int8"] += 1 << param.bits if param.format.book else 0
                else:
                    wanted[str(param.dtype)] += param.nbytes
        with safe_open(tmp_path / "a.subbyte", "np") as file:
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
        del stored["graph"]
        assert {str(array.dtype): array.nbytes for array in stored.values()} == +wanted


def test_the_description_is_small(tmp_path: Path) -> None:
    """A network of 90 nodes is described in under 60 bytes a node, header included."""
    artifact = seeds()["middle"]
    save(tmp_path / "a.subbyte", artifact)
    with safe_open(tmp_path / "a.subbyte", "np") as file:
        content = sum(file.get_tensor(name).nbytes for name in file.keys() if name != "graph")  # noqa: SIM118
    assert (tmp_path / "a.subbyte").stat().st_size - content < 60 * len(artifact.graph.nodes)


def test_the_safetensors_library_reads_it(tmp_path: Path) -> None:
    """Node by node, each array follows the one before in the tensor of its dtype."""
    artifact = seeds()["real"]
    path = tmp_path / "a.subbyte"
    save(path, artifact)
    joined: dict[str, list[np.ndarray]] = {"F16": [], "F32": []}
    for node in artifact.graph.nodes:
        for _, param in sorted(node.params.items()):
            assert isinstance(param, np.ndarray)
            joined["F16" if param.dtype == np.float16 else "F32"].append(param.reshape(-1))
    with safe_open(path, "np") as file:
        assert file.metadata()["format"] == "subbyte"
        assert set(file.keys()) == {"F16", "F32", "graph"}
        for name, parts in joined.items():
            assert same_array(file.get_tensor(name), np.concatenate(parts))
        graph = json.loads(bz2.decompress(file.get_tensor("graph").tobytes()))
    assert [node["name"] for node in graph["nodes"]] == [node.name for node in artifact.graph.nodes]


@pytest.mark.parametrize("act", [*ACTIVATIONS, *PARAMETRIC])
def test_activations_keep_their_text(act: str, tmp_path: Path) -> None:
    """Fused and alone; the file says `act` as the graph does, so that names alone are stored as ever."""
    b = Builder(random.Random(1), (3, 3, 2))
    graph = b.finish(b.qactivation(b.qconv(b.quantize("image"), 4, act=act), act))
    save(tmp_path / "a.subbyte", wrap(graph))
    loaded = load(tmp_path / "a.subbyte")
    save(tmp_path / "b.subbyte", loaded)
    assert (tmp_path / "a.subbyte").read_bytes() == (tmp_path / "b.subbyte").read_bytes()
    assert [n.attrs["act"] for n in loaded.graph.nodes if "act" in n.attrs] == [act, act]


@pytest.mark.parametrize(
    "act", ["leaky_relu:0.250", "leaky_relu:1e99", "elu:1.0", "selu", "tanh:1.0", "clip:0:1"]
)
def test_other_texts_of_activations_are_refused(act: str, tmp_path: Path) -> None:
    b = Builder(random.Random(1), (3, 3, 2))
    graph = b.finish(b.add("activation", ["image"], None, {"act": "tanh"}))
    (node,) = graph.nodes
    forged = replace(graph, nodes=(node.with_(attrs={"act": act}),))
    (tmp_path / "a.subbyte").write_bytes(b"".join(serialize(wrap(forged))))
    with pytest.raises(ArtifactError, match="act must be one of none, relu"):
        load(tmp_path / "a.subbyte")
