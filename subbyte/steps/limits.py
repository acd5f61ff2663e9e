"""How far a scale can move before nothing that is rounded with it can follow."""

from __future__ import annotations

import math

import numpy as np

from subbyte.quant import QTensor
from subbyte.steps.learned import Learned


def limits(learned: Learned) -> dict[str, dict[str, float]]:
    """Of logarithms of factors on scales, by kind and name: the logarithm of twice the steps in the range.

    A grid with n steps from its lowest to its highest code spans n scales. Once a scale has grown by more
    than 2 n, a step is more than twice as long as all that the grid spanned: what was spread over n + 1 codes
    falls on one or two. Once it has shrunk by more than 2 n, the grid spans less than half a step of what it
    was: all that was not zero is cut off. Either way the straight-through gradient is that of a constant, and
    no later step leads back. For weights n counts in the smallest step of the code book.
    """
    found: dict[str, dict[str, float]] = {"scale": {}, "grid": {}}
    for node in learned.graph.nodes:
        weight = node.params.get("weight")
        if node.name in learned.parameters["scale"] and isinstance(weight, QTensor):
            levels = np.unique(weight.levels).astype(np.float64)
            found["scale"][node.name] = _limit((levels[-1] - levels[0]) / np.diff(levels).min())
    values = learned.graph.values
    for name in learned.parameters["grid"]:  # of a value, or in front of a table, where there are 8 bits
        found["grid"][name] = _limit(values[name].grid.qmax if name in values else 255)
    return found


def weight_bits(learned: Learned) -> float:
    """The mean number of bits of a quantized weight of the graph; 0 if there is none."""
    weights = [node.params.get("weight") for node in learned.graph.nodes]
    sizes = [(w.codes.size, w.format.width) for w in weights if isinstance(w, QTensor)]
    return sum(size * width for size, width in sizes) / max(1, sum(size for size, _ in sizes))


def _limit(steps: float) -> float:
    return math.log(2.0 * steps)
