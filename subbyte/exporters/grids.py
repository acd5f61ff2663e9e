"""Grids that a graph lacks and a format asks for: of a layer's sums where they are not rounded."""

from __future__ import annotations

from collections.abc import Mapping

from subbyte.ir import Graph, Node
from subbyte.quant import QParams, qparams_from_range

#: Low and high of what layers sum up to, by the names of their outputs.
Ranges = Mapping[str, tuple[float, float]]


def residual_grid(graph: Graph, node: Node, ranges: Ranges) -> QParams:
    """The 8-bit grid of a quantized layer's sums before its residual is added to them.

    It covers the layer's entry in `ranges`; without one every y - r of the output and the residual, so that
    y = (y - r) + r never saturates in between.
    """
    if node.output in ranges:
        return qparams_from_range(*ranges[node.output])
    y, r = graph.value(node.output).grid, graph.value(node.inputs[1]).grid
    return qparams_from_range(y.low - r.high, y.high - r.low)
