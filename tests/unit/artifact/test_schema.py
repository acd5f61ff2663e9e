"""What the graph's JSON may hold: one message, of the first thing that is wrong, that names its place."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from subbyte.artifact.schema import PackedJson, PlainJson, ValueJson, parse_graph
from subbyte.errors import ArtifactError
from subbyte.ir.limits import MAX_NODES

VALUE = {"name": "y", "shape": [1, 1, 2], "grid": [0.5, 0, 8]}
NODE = {
    "name": "n",
    "op": "conv2d",
    "inputs": ["x"],
    "output": VALUE,
    "attrs": {"stride": [1, 1], "act": "relu", "groups": 1, "slope": 0.25},
    "plain": {"bias": {"dtype": "I32", "shape": [2]}},
    "packed": {"weight": {"bits": 4, "shape": [2, 3], "codebook": True}},
}
GRAPH = {"input": {"name": "x", "shape": [1, 1, 3]}, "outputs": ["y"], "nodes": [NODE]}


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    graph = copy.deepcopy(GRAPH)
    change(graph)
    return json.dumps(graph)


def test_what_a_graph_is_read_as() -> None:
    graph = parse_graph(json.dumps(GRAPH))
    assert graph.input == ValueJson("x", [1, 1, 3], None)
    (node,) = graph.nodes
    assert node.output == ValueJson("y", [1, 1, 2], [0.5, 0, 8])
    assert node.attrs == NODE["attrs"]
    assert node.plain == {"bias": PlainJson("I32", [2])}
    assert node.packed == {"weight": PackedJson(4, [2, 3], True)}


def test_what_may_be_absent() -> None:
    text = changed(lambda g: [g["nodes"][0].pop(key) for key in ("attrs", "plain", "packed")])
    (node,) = parse_graph(text).nodes
    assert (node.attrs, node.plain, node.packed) == ({}, {}, {})
    text = changed(lambda g: g["nodes"][0]["packed"]["weight"].pop("codebook"))
    assert parse_graph(text).nodes[0].packed["weight"].codebook is False
    assert parse_graph(changed(lambda g: g["input"].update(grid=None))).input.grid is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g.pop("nodes"), "nodes: is missing"),
        (lambda g: g.update(more=1), "more: there is no such field"),
        (lambda g: g.update(nodes={}), "nodes: must be a list, not an object"),
        (lambda g: g["outputs"].append(None), "outputs.1: must be a text, not null"),
        (lambda g: g["input"].pop("shape"), "input.shape: is missing"),
        (lambda g: g["input"].update(shape=[True]), "input.shape.0: must be an integer, not a boolean"),
        (lambda g: g["input"].update(shape=[1.0]), "input.shape.0: must be an integer, not a real number"),
        (lambda g: g["input"].update(grid=[1.0, 0]), "input.grid: has 2 items; at least 3 are needed"),
        (
            lambda g: g["input"].update(grid=[1.0, True, 8]),
            "input.grid.1: must be an integer or a real number, not a boolean",
        ),
        (
            lambda g: g["nodes"].append({**NODE, "output": {**VALUE, "shape": [1] * 4}}),
            "nodes.1.output.shape: has 4 items; at most 3 are supported",
        ),
        (
            lambda g: g["nodes"][0]["attrs"].update(stride=[1] * 9),
            "nodes.0.attrs.stride: has 9 items; at most 8 are supported",
        ),
        (
            lambda g: g["nodes"][0].update(attrs={str(i): i for i in range(9)}),
            "nodes.0.attrs: has 9 items; at most 8 are supported",
        ),
        (
            lambda g: g["nodes"][0].update(inputs=["x"] * 65),
            "nodes.0.inputs: has 65 items; at most 64 are supported",
        ),
        (
            lambda g: g["nodes"][0]["plain"]["bias"].update(dtype=["I32"]),
            "nodes.0.plain.bias.dtype: must be F16 or F32 or I32 or U8",
        ),
        (
            lambda g: g["nodes"][0]["packed"]["weight"].update(codebook=1),
            "nodes.0.packed.weight.codebook: must be a boolean, not an integer",
        ),
        (
            lambda g: g["nodes"][0]["attrs"].update({"k" * 10_000: None}),
            f"nodes.0.attrs.{'k' * 80}: must be an integer or a real number or a text or a list, not null",
        ),
        (
            lambda g: g.update(outputs=[1] * (MAX_NODES + 1)),
            f"outputs: has {MAX_NODES + 1} items; at most {MAX_NODES} are supported",
        ),
    ],
)
def test_what_is_wrong_is_named(change: Callable[[dict[str, Any]], object], message: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        parse_graph(changed(change))
    assert str(caught.value) == f"graph.{message}"
