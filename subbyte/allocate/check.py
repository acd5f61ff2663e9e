"""How far degradations are from adding up, and what to do about it.

An allocation is built and measured. Then the layers that cost most by prediction are widened one at
a time within it: what that wins, beside what the table says it should, corrects the table's numbers
for these layers, and the program is solved again. What measures better is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from subbyte.allocate.allocator import Allocation, Allocator
from subbyte.allocate.budget import Budget
from subbyte.analysis.degradation import Degradation, Meter
from subbyte.errors import InputError
from subbyte.quant import Format
from subbyte.quant.format import UINT8
from subbyte.quant.pattern import DENSE
from subbyte.quantize.calibrate import Progress
from subbyte.steps.bias_correction import correct_biases

#: Images that biases are corrected on for a measurement.
CORRECTION_IMAGES = 16
#: Layers that are widened in each round, and rounds at most.
PROBES, ROUNDS = 8, 2
#: A probe changes a layer's degradations by at most this factor, either way.
LARGEST_FACTOR = 8.0
#: Halvings of the range of sizes, where only the loss of agreement is limited.
BISECTIONS = 6


@dataclass(frozen=True)
class Checked:
    """An allocation and the degradation that it really does, after rounding and correction of biases, on
    the meter's images. evaluations: networks that were measured to find it."""

    allocation: Allocation
    degradation: Degradation
    evaluations: int


class Checker:
    """Measures and improves allocations. images: some of them serve to correct biases."""

    def __init__(
        self, allocator: Allocator, meter: Meter, images: np.ndarray, progress: Progress | None = None
    ) -> None:
        self.allocator, self.meter = allocator, meter
        chosen = np.linspace(0, len(images) - 1, min(CORRECTION_IMAGES, len(images))).astype(int)
        self.few = images[chosen]
        self.report = progress or (lambda stage, done: None)
        self.evaluations = 0

    def measure(self, allocation: Allocation) -> Degradation:
        """Of the network with these widths, biases corrected if its recipe has any step; training does
        no less."""
        graph = self.allocator.graph(allocation)
        if allocation.recipe.steps:
            quiet: Progress = lambda stage, done: None  # noqa: E731
            original = self.allocator.variants.float_graph
            graph = correct_biases(graph, original, self.few, quiet, shrink=True)
        self.evaluations += 1
        self.report("allocate", self.evaluations)
        return self.meter.of(graph)

    def best(self, budget: Budget, rounds: int = ROUNDS) -> Checked:
        """The allocation of least measured loss that was found within the budget's costs.

        Raises InputError if no formats fit, as Allocator.allocate does.
        """
        self.evaluations = 0
        found = self.allocator.allocate(budget)
        degradation = self.measure(found)
        for _ in range(rounds):
            if not self._learn(found, degradation):
                break
            other = self.allocator.allocate(budget)
            if other.weights == found.weights and other.activations == found.activations:
                break
            measured = self.measure(other)
            if measured.loss < degradation.loss:
                found, degradation = other, measured
        return Checked(found, degradation, self.evaluations)

    def smallest(self, budget: Budget) -> Checked:
        """The smallest file whose loss of agreement is within budget.drop; it is searched by halving.

        Raises InputError if even 8 bits lose more.
        """
        assert budget.drop is not None
        widest = self.allocator.allocate(replace(budget, size=None))
        degradation = self.measure(widest)
        if lost(degradation) > budget.drop:
            raise InputError(
                f"a drop of {budget.drop:g} points cannot be kept: the least that any widths lose is "
                f"{lost(degradation):.2f}; allow that many"
            )
        best = Checked(widest, degradation, self.evaluations)
        low, high = self.allocator.smallest(budget), best.allocation.size
        for _ in range(BISECTIONS):
            if low >= high:  # the rules that name widths can take up more than these save
                break
            middle = (low + high) // 2
            try:
                found = self.best(replace(budget, size=middle), rounds=0)
            except InputError:
                low = middle + 1
                continue
            if lost(found.degradation) <= budget.drop:
                best, high = found, found.allocation.size
            else:
                low = middle + 1
        return best

    def _learn(self, found: Allocation, degradation: Degradation) -> bool:
        """Corrects the degradations of the layers and groups of activations that cost most; whether there
        were any."""
        costs = self.allocator.costs
        layers = [(won, name, wider) for name, (wider, won) in self._wider(found).items()]
        groups = [(won, index, wider) for index, (wider, won) in self._wider_activations(found).items()]
        probes: list[tuple[float, str | int, Format]] = [*layers, *groups]
        ratios = {}
        for expected, key, wider in sorted(probes, key=lambda probe: -probe[0])[:PROBES]:
            if isinstance(key, str):
                widened = replace(found, weights={**found.weights, key: wider})
            else:
                changed = dict.fromkeys(costs.shared[key].nodes, wider)
                widened = replace(found, activations={**found.activations, **changed})
            ratios[key] = max(degradation.loss - self.measure(widened).loss, 0.0) / expected
        if not ratios:
            return False
        usual = float(np.median(list(ratios.values()))) or 1.0
        for key, ratio in ratios.items():
            factor = float(np.clip(ratio / usual, 1.0 / LARGEST_FACTOR, LARGEST_FACTOR))
            if isinstance(key, str):
                costs.factors[key] = costs.factors.get(key, 1.0) * factor
            else:
                costs.group_factors[key] = costs.group_factors.get(key, 1.0) * factor
        return True

    def _wider_activations(self, found: Allocation) -> Mapping[int, tuple[Format, float]]:
        """The same for each group of activations, by its index."""
        costs, result = self.allocator.costs, {}
        for index, group in enumerate(costs.shared):
            format = found.activations.get(group.nodes[0], UINT8)
            degradations = costs.group_item(index).degradation
            wider = sorted((one for one in degradations if one.width > format.width), key=_width)
            won = degradations[format] - degradations[wider[0]] if wider else 0.0
            if won > 0.0:
                result[index] = wider[0], won
        return result

    def _wider(self, found: Allocation) -> Mapping[str, tuple[Format, float]]:
        """For each layer that could be wider: the next format, dense or of its pattern, and the loss that it
        should win."""
        costs, result = self.allocator.costs, {}
        for name, format in found.weights.items():
            degradations = costs.degradations("weights", name)  # wide to narrow
            patterns = (format.pattern, DENSE)
            wider = [
                one
                for one in degradations
                if one.width > format.width and one.pattern in patterns and one not in costs.refused[name]
            ]
            won = degradations[format] - degradations[wider[-1]] if wider else 0.0
            if won > 0.0:
                result[name] = wider[-1], won * costs.factors.get(name, 1.0)
        return result


def _width(format: Format) -> float:
    return format.width


def lost(degradation: Degradation) -> float:
    """Points of agreement with float32 that are lost."""
    return 100.0 * (1.0 - degradation.agreement)
