"""Questions about data flow that passes ask, and the loop they run in."""

from __future__ import annotations

from collections.abc import Callable

from subbyte.ir import Graph, Node, ops
from subbyte.ir.graph import consumers


def only_consumers(graph: Graph) -> dict[str, Node]:
    """Value name to its consumer, for the values that are read exactly once and are no output."""
    return {
        name: nodes[0]
        for name, nodes in consumers(graph).items()
        if len(nodes) == 1 and name not in graph.outputs
    }


def is_plain(graph: Graph, node: Node) -> bool:
    """A float32 conv2d or linear that adds no activation and no residual."""
    values = (graph.value(node.inputs[0]), graph.value(node.output))
    return ops.is_plain(node) and all(value.q is None for value in values)


def until_stable(graph: Graph, step: Callable[[Graph], Graph | None]) -> Graph:
    """Repeats `step`, one rewrite at a time, until it finds nothing to do (None).

    A pass written this way is idempotent by construction.
    """
    while (rewritten := step(graph)) is not None:
        graph = rewritten
    return graph
