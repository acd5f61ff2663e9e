"""The graph that costs are asked of is the one that importing the candidate's module gives."""

from __future__ import annotations

import math
import random

import pytest

from subbyte.device import layers
from subbyte.importers import import_model
from subbyte.ir import Graph
from subbyte.ir.graph import weights_of
from subbyte.search import Space
from subbyte.search.graph import float_graph, quantized_graph, recipe_of
from subbyte.search.supernet import standalone


def signatures(graph: Graph) -> list[tuple[str, int]]:
    return sorted((layer.signature, layer.macs) for layer in layers(graph).values())


def parameters(graph: Graph) -> int:
    return sum(math.prod(param.shape) for node in graph.nodes for param in node.params.values())


@pytest.mark.parametrize("seed", range(3))
def test_the_graph_is_the_imported_one(space: Space, seed: int) -> None:
    candidate = space.random(random.Random(seed)) if seed else space.largest
    module = standalone(candidate, 5)
    imported = import_model(module, preprocessing=space.input(candidate.resolution)).graph
    built = float_graph(candidate, 5)
    assert signatures(built) == signatures(imported)
    assert parameters(built) == parameters(imported)
    assert built.value(built.outputs[0]).shape == (5,)


def test_formats_of_stages(space: Space) -> None:
    chosen = {name: values[0] for name, values in space.lists().items()}
    candidate = space.candidate({**chosen, "stage1.weights": "int8+2:4", "stage1.kind": "ir"})
    graph = quantized_graph(candidate, 5)
    formats = {node.name: str(weights_of(node)) for node in graph.nodes if "weight" in node.params}
    assert formats["blocks.1.0.conv_pw"] == "int8+2:4"
    assert formats["blocks.1.0.conv_dw"] == "int8"  # of one input a channel: dense
    assert formats["conv_stem"] == formats["blocks.0.0.conv"] == formats["classifier"] == "int8"
    assert [rule.match for rule in recipe_of(candidate).override] == ["blocks.1.*"]
