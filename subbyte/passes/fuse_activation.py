"""Moves an activation into the convolution or linear layer in front of it."""

from __future__ import annotations

from subbyte.ir import Graph
from subbyte.ir.graph import producers, rebuild
from subbyte.passes.dataflow import is_plain, only_consumers, until_stable


def fuse_activation(graph: Graph) -> Graph:
    """Requires: float32 values. Ensures: no activation is the only consumer of a plain conv2d or linear.

    Plain: act none, no residual. The fused node keeps the layer's name and makes the activation's
    output. An activation after a residual stays a node: a conv2d adds its residual last.
    """
    return until_stable(graph, _fuse_first)


def _fuse_first(graph: Graph) -> Graph | None:
    producer, only = producers(graph), only_consumers(graph)
    for node in graph.nodes:
        before = producer.get(node.inputs[0])
        if node.op != "activation" or before is None or before.output not in only:
            continue
        if is_plain(graph, before):
            fused = before.with_(output=node.output, attrs={**before.attrs, "act": node.attrs["act"]})
            return rebuild(graph, [fused if n is node else n for n in graph.nodes if n is not before])
    return None
