"""Moves the addition of a residual into the convolution in front of it."""

from __future__ import annotations

from subbyte.ir import Graph, Node
from subbyte.ir.graph import producers, rebuild
from subbyte.passes.dataflow import is_plain, only_consumers, until_stable


def fuse_residual(graph: Graph) -> Graph:
    """Requires: float32 values. Ensures: no add reads a plain conv2d that nothing else reads.

    Plain: act none, no residual yet (a quantized conv2d with a residual has no activation). Where
    both operands qualify, the later convolution takes the residual. The fused node keeps the
    convolution's name, makes the sum, and stands where the add stood: after both operands.
    """
    return until_stable(graph, _fuse_first)


def _fuse_first(graph: Graph) -> Graph | None:
    producer, only = producers(graph), only_consumers(graph)
    order = {node.name: i for i, node in enumerate(graph.nodes)}

    def fusable(value: str) -> Node | None:
        node = producer.get(value)
        if node is None or node.op != "conv2d" or value not in only or not is_plain(graph, node):
            return None
        return node

    for node in graph.nodes:
        if node.op != "add":
            continue
        candidates = [c for c in map(fusable, node.inputs) if c is not None]
        if candidates:
            conv = max(candidates, key=lambda c: order[c.name])
            residual = next(name for name in node.inputs if name != conv.output)
            fused = conv.with_(inputs=(conv.inputs[0], residual), output=node.output)
            return rebuild(graph, [fused if n is node else n for n in graph.nodes if n is not conv])
    return None
