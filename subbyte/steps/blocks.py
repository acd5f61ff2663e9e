"""Cuts a graph into the blocks that its designer drew, by data flow alone.

Places where a single value carries everything that follows are where a network can be cut. Between
them lie a residual block, or one layer of a chain. Layers of a chain belong to one block from where
it widens to its linear bottleneck: MBConv (arXiv 1801.04381), Fused-MBConv (arXiv 2104.00298).
"""

from __future__ import annotations

from dataclasses import dataclass

from subbyte.ir import OPS, Graph, Kind, Node, is_weighted


@dataclass(frozen=True)
class Block:
    """Nodes that follow each other, by name; all they need of the nodes before them is `input`.

    input, output: names of values.
    """

    nodes: tuple[str, ...]
    input: str
    output: str


def blocks(graph: Graph) -> tuple[Block, ...]:
    """All nodes of `graph`, float or quantized, in blocks, in order.

    The first layer is a block, and what follows the last bottleneck is one. Changes of the grid
    belong to the layer that they feed.
    """
    result: list[Block] = []
    nodes: list[str] = []
    start = graph.input
    ended, weighted = _single(graph), 0
    for position, node in enumerate(graph.nodes):
        nodes.append(node.name)
        weighted += is_weighted(node)
        last = position == len(graph.nodes) - 1
        ends = weighted and node.output in ended and _ends(graph, node, start, first=not result)
        if ends or last:
            result.append(Block(tuple(nodes), start, node.output))
            nodes, start, weighted = [], node.output, 0
    return tuple(result)


def _single(graph: Graph) -> set[str]:
    """The values that are all a later node can see when they are made."""
    last_read = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    last_read |= dict.fromkeys(graph.outputs, len(graph.nodes))
    alive: set[str] = {graph.input}
    found = set()
    for position, node in enumerate(graph.nodes):
        alive = {name for name in alive | {node.output} if last_read.get(name, -1) > position}
        if alive == {node.output}:
            found.add(node.output)
    return found


def _ends(graph: Graph, node: Node, start: str, *, first: bool) -> bool:
    """Whether a block that began at `start` ends at this node's output."""
    if first:
        return True
    if OPS[node.op].kind in (Kind.GRID, Kind.POOL, Kind.MOVE):
        return False
    linear = node.attrs.get("act", "none") == "none" and node.op != "mul"
    return linear or graph.value(node.output).shape[-1] <= graph.value(start).shape[-1]
