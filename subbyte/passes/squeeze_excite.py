"""Finds squeeze-and-excitation blocks (arXiv 1709.01507) by their data flow."""

from __future__ import annotations

from dataclasses import dataclass

from subbyte.ir import OPS, Graph, Kind, Node
from subbyte.ir.graph import producers
from subbyte.passes.dataflow import only_consumers


@dataclass(frozen=True)
class SqueezeExcite:
    """One block, `gate(x, expand(reduce(pool(x))))`: the names of its nodes and of its input value."""

    pool: str
    reduce: str
    expand: str
    gate: str
    input: str


def squeeze_excite(graph: Graph) -> list[SqueezeExcite]:
    """The blocks of an optimized graph, float or quantized, in order of their `mul`.

    A block is a mul whose gate goes back, through values that are read once, over two 1x1 conv2d
    (activations inside them or as nodes of their own) to a global_avg_pool of the very value that
    the mul scales. Grid changes on the way (quantize, dequantize) are looked through.
    """
    found = (_match(graph, node) for node in graph.nodes if node.op == "mul")
    return [block for block in found if block is not None]


def _match(graph: Graph, gate: Node) -> SqueezeExcite | None:
    producer, only = producers(graph), only_consumers(graph)
    convolutions: list[str] = []
    value = gate.inputs[1]
    while (node := producer.get(value)) is not None and value in only:
        value = node.inputs[0]
        if node.op == "conv2d" and len(node.inputs) == 1 and node.params["weight"].shape[1:3] == (1, 1):
            convolutions.append(node.name)
        elif node.op == "global_avg_pool":
            if len(convolutions) != 2 or value != gate.inputs[0]:
                return None
            expand, reduce = convolutions
            return SqueezeExcite(node.name, reduce, expand, gate.name, value)
        elif node.op != "activation" and OPS[node.op].kind is not Kind.GRID:
            return None
    return None
