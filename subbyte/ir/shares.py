"""Which formats a network's numbers have, the one place that counts them, and which values share a grid."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from subbyte.ir.graph import Graph, Value, consumers, weights_of
from subbyte.ir.ops import OPS, Kind
from subbyte.quant import Format
from subbyte.quant.format import FP32


@dataclass(frozen=True)
class Shares:
    """How many of a network's numbers have each format, the most frequent first.

    weights: of all layers' weights, quantized and float; biases are none. activations: of the numbers of
    `activations(graph)`, per image.
    As text: "weights: 4 bits 91 %, 8 bits 9 % · activations: 4 bits 96 %, 8 bits 4 %".
    """

    weights: Mapping[Format, int]
    activations: Mapping[Format, int]

    @property
    def activation_bits(self) -> float:
        """Mean bits of an activation, numbers of float32 having 32; 0 where there is none."""
        total = sum(self.activations.values())
        return sum(format.bits * count for format, count in self.activations.items()) / max(total, 1)

    def __str__(self) -> str:
        return " · ".join(f"{kind}: {shares_text(counts)}" for kind, counts in self._kinds().items())

    def to_json(self) -> dict[str, dict[str, float]]:
        """By kind and text of the format, shares 0..1 to four digits."""
        return {
            kind: {str(format): round(count / sum(counts.values()), 4) for format, count in counts.items()}
            for kind, counts in self._kinds().items()
        }

    def _kinds(self) -> dict[str, Mapping[Format, int]]:
        return {"weights": self.weights, "activations": self.activations}


def shares(graph: Graph) -> Shares:
    """Of a graph, float or quantized."""
    weights: Counter[Format] = Counter()
    for node in graph.nodes:
        if (format := weights_of(node)) is not None:
            weights[format] += math.prod(node.params["weight"].shape)
    numbers: Counter[Format] = Counter()
    for value in activations(graph):
        numbers[FP32 if value.q is None else value.q.format] += math.prod(value.shape)
    return Shares(dict(weights.most_common()), dict(numbers.most_common()))


def activations(graph: Graph) -> list[Value]:
    """The values that count as activations: what operations compute and other operations read, in order.

    Not the image, and not outputs of the network that nothing reads. What is only moved (flatten, concat) or
    converted between codes and float32 is the same numbers again and counts where it was made, in the format
    that it was made in.
    """
    read = consumers(graph)
    made = [node for node in graph.nodes if OPS[node.op].kind not in (Kind.GRID, Kind.MOVE)]
    return [graph.value(node.output) for node in made if read[node.output]]


def sharing(graph: Graph) -> list[list[str]]:
    """The values in groups that must have one grid."""
    group = {name: [name] for name in graph.values}
    for node in graph.nodes:
        if not OPS[node.op].keeps_grid:
            continue
        for name in node.inputs:
            if group[name] is not group[node.output]:
                joined = group[name] + group[node.output]
                group.update(dict.fromkeys(joined, joined))
    return list({id(members): members for members in group.values()}.values())


def shares_text(counts: Mapping[Format, int]) -> str:
    """ "4 bits 91 %, 8 bits 9 %", or "none"."""
    total = sum(counts.values())
    return ", ".join(f"{f.words} {share_text(count, total)}" for f, count in counts.items()) or "none"


def share_text(count: int, total: int) -> str:
    """In per cent; what is not all or nothing is not rounded to it: "> 99 %", "< 1 %"."""
    rounded = round(100 * count / total)
    if count < total and rounded == 100:
        return "> 99 %"
    return f"{rounded} %" if rounded > 0 else "< 1 %"
