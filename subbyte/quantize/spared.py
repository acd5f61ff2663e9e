"""Which layers and activations keep 8 bits, and no pattern, because there is little of them (`spare`).

The fewer numbers a tensor has, the more each of them counts: at 4 bits on EfficientNetV2-B0, 2.5 per cent
of the weights, in the smallest convolutions, make two fifths of what all weights cost. Counting needs no
measurement and fits any network; allocate/ measures.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import TypeVar

from subbyte.ir import Graph, is_weighted
from subbyte.ir.graph import producers
from subbyte.ir.shares import activations, sharing

T = TypeVar("T")


def spared_weights(graph: Graph, share: float, free: Collection[str]) -> set[str]:
    """Of the weighted nodes in `free`, by name, those with the fewest weights.

    Together at most `share` of all weights of the graph.
    """
    count = {node.name: math.prod(node.params["weight"].shape) for node in graph.nodes if is_weighted(node)}
    return set(_fewest(((count[name], name) for name in count if name in free), share * sum(count.values())))


def spared_activations(graph: Graph, share: float, free: Collection[str]) -> set[str]:
    """Of the nodes in `free`, by name, those that make the values with the fewest elements.

    Together at most `share` of all that count as activations (ir.shares); values that share a grid are one.
    """
    made = producers(graph)
    counts = {value.name: math.prod(value.shape) for value in activations(graph)}
    groups: list[tuple[int, list[str]]] = []
    for members in sharing(graph):
        makers = [made[name].name for name in members if name in made]
        size = sum(counts.get(name, 0) for name in members)
        if size and len(makers) == len(members) and all(name in free for name in makers):
            groups.append((size, makers))
    chosen = _fewest(((size, index) for index, (size, _) in enumerate(groups)), share * sum(counts.values()))
    return {name for index in chosen for name in groups[index][1]}


def _fewest(sizes: Iterable[tuple[int, T]], room: float) -> list[T]:
    """The smallest, in order, as many as there is room for; of equal ones those that came first."""
    chosen = []
    for size, name in sorted(sizes, key=lambda pair: pair[0]):
        if size > room:
            break
        room -= size
        chosen.append(name)
    return chosen
