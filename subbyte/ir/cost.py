"""What a graph costs, from shapes alone."""

from __future__ import annotations

import math

from subbyte.ir.graph import Graph


def macs(graph: Graph) -> dict[str, int]:
    """Multiply-accumulate operations per image, by name of every conv2d and linear node.

    Taps that fall into the padding count: the figure depends on shapes only, as in the literature.
    """
    return {
        node.name: math.prod(graph.value(node.output).shape) * math.prod(node.params["weight"].shape[1:])
        for node in graph.nodes
        if node.op in ("conv2d", "linear")
    }
