"""Removes nodes that no output depends on."""

from __future__ import annotations

from subbyte.ir import Graph
from subbyte.ir.graph import rebuild


def drop_dead_nodes(graph: Graph) -> Graph:
    """Requires: nodes in execution order. Ensures: every node contributes to an output."""
    needed, kept = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if node.output in needed:
            needed.update(node.inputs)
            kept.append(node)
    return rebuild(graph, reversed(kept))
