"""Allocation: a format for every layer, so that the network fits its budgets at the least degradation.

From a sensitivity table (what each format costs in KL), the format itself (what it costs in bytes) and a
target (what it costs in time) to a recipe that sets formats and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from subbyte.allocate.budget import Budget
from subbyte.allocate.costs import Costs
from subbyte.allocate.program import Goal, Program, Solution, solve
from subbyte.allocate.recipe import described, with_formats
from subbyte.artifact import Artifact
from subbyte.device import artifact_bytes
from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.ir.shares import Shares, shares
from subbyte.quant import Format
from subbyte.quant.format import INT8, UINT8
from subbyte.quantize.variants import Variants
from subbyte.recipes import Recipe

#: A network and the recipe that made it, as the artifact to be written.
Wrap = Callable[[Graph, Recipe], Artifact]

#: How often what the program cannot know (the size of recipe and graph description, the memory of the
#: activations) is corrected by what a solution needs.
ROUNDS = 8
#: Bytes left free where steps train: other digits of a grid make the compressed description longer.
TRAINING_ROOM = 256


@dataclass(frozen=True)
class _Made:
    """A network of some formats: its recipe, bytes of its file, shares of its formats."""

    recipe: Recipe
    size: int
    shares: Shares


@dataclass(frozen=True)
class Allocation:
    """recipe: of these formats. weights: by layer, a float format where it runs in floating point;
    activations: by node, where they are not of 8 bits. degradation: predicted KL beyond that of 8 bits, nats.
    size: bytes of the file, rounded to nearest. latency, energy: predicted, ms and mJ, the latter None where
    the target does not know it. reasons: by layer that keeps 8 bits,
    why; floats: by layer in floating point. shares: of weights and activations at each format."""

    recipe: Recipe
    weights: Mapping[str, Format]
    activations: Mapping[str, Format]
    degradation: float
    size: int
    latency: float
    shares: Shares
    reasons: Mapping[str, str] = field(default_factory=dict)
    floats: Mapping[str, str] = field(default_factory=dict)
    energy: float | None = None


class Allocator:
    """Allocates the network of `variants`; `costs` may change between calls.

    recipe: whose ranges, steps and float layers the result has. wrap: makes the artifact whose size
    counts. purpose: what the formats are for, in words for the recipe's description.
    """

    def __init__(
        self, variants: Variants, costs: Costs, recipe: Recipe, wrap: Wrap, purpose: str = ""
    ) -> None:
        self.variants, self.costs, self.recipe, self.wrap = variants, costs, recipe, wrap
        self.purpose = purpose
        plain = self._made(dict.fromkeys(costs.names, INT8), {})
        self._rest_bytes = plain.size - costs.weight_bytes_at_8()

    def program(self) -> Program:
        """The integer program of the layers and groups, without limits."""
        elements, bits = self.costs.activation_elements()
        rest = self.costs.rest()
        return Program(
            [self.costs.layer_item(name) for name in self.costs.names],
            [self.costs.group_item(index) for index in range(len(self.costs.shared))],
            self._rest_bytes,
            sum(cost.time for cost in rest),
            bits,
            elements,
            sum(cost.energy or 0.0 for cost in rest),
        )

    def allocate(self, budget: Budget) -> Allocation:
        """The least predicted degradation within the budget's size, latency, energy, memory and bits of
        activations.

        Raises InputError if no formats fit, naming the nearest values that there are, or if the target does
        not know energies.
        """
        self._check_memory(budget)
        self._check_energy(budget)
        if budget.size is not None and set(self.recipe.steps) - {"bias_correction"}:
            budget = replace(budget, size=budget.size - TRAINING_ROOM)
        program, size = self.program(), budget.size
        bits = self._bits(program, budget)
        for _ in range(ROUNDS):
            solution = solve(program, size=size, latency=budget.latency, bits=bits, energy=budget.energy)
            if solution is None:
                break
            result = self._allocation(solution)
            over, excess = self._size_over(budget, result), self._activations_over(budget, result)
            if over <= 0 and excess <= 1.0:
                return result
            if size is not None and over > 0:
                size -= max(over, 64)
            if excess > 1.0:
                bits = min(solution.bits - 1, solution.bits / excess)
        smallest = solve(program, latency=budget.latency, bits=bits, energy=budget.energy, goal="size")
        if smallest is not None and budget.size is not None:
            result = self._allocation(smallest)
            if self._size_over(budget, result) <= 0 and self._activations_over(budget, result) <= 1.0:
                return result
        raise InputError(self._infeasible(program, budget))

    def smallest(self, budget: Budget) -> int:
        """Bytes of the smallest file within the budget's other limits. InputError if there is none."""
        program = self.program()
        bits = self._bits(program, budget)
        found = solve(program, latency=budget.latency, bits=bits, energy=budget.energy, goal="size")
        if found is None:
            raise InputError(self._infeasible(program, replace(budget, size=None)))
        return self._allocation(found).size

    def graph(self, allocation: Allocation) -> Graph:
        """The network with the allocation's formats, rounded to nearest."""
        return self.variants.quantized(allocation.weights, allocation.activations)

    def _allocation(self, solution: Solution) -> Allocation:
        narrow = {i: format for i, format in solution.activations.items() if format != UINT8}
        activations = {node: format for i, format in narrow.items() for node in self.costs.shared[i].nodes}
        made = self._made(solution.weights, activations)
        return Allocation(
            made.recipe,
            solution.weights,
            activations,
            solution.degradation,
            made.size,
            solution.latency,
            made.shares,
            {name: self.costs.kept_because(name) for name, f in solution.weights.items() if f == INT8},
            {name: self.costs.float_because(name, f) for name, f in solution.weights.items() if f.is_float},
            solution.energy if self.costs.knows_energy() else None,
        )

    def _made(self, weights: Mapping[str, Format], activations: Mapping[str, Format]) -> _Made:
        graph = self.variants.quantized(weights, activations)
        found = shares(graph)
        every = {node: activations.get(node, UINT8) for group in self.costs.shared for node in group.nodes}
        text = described(found, self.purpose)
        recipe = with_formats(self.recipe, self.variants.graph, weights, every, self.recipe.name, text)
        return _Made(recipe, artifact_bytes(self.wrap(graph, recipe)), found)

    def _check_memory(self, budget: Budget) -> None:
        """InputError if no choice of formats has room for its activations."""
        if budget.memory is None:
            return
        target = self.costs.target
        needed = target.memory(self.costs.base).activations
        if needed > budget.memory and self._varied:
            needed = min(needed, self._least_memory())
        if needed > budget.memory:
            raise InputError(
                f"activations may take {budget.memory} bytes, but {target.name} needs {needed}; "
                "allow that many"
            )

    def _check_energy(self, budget: Budget) -> None:
        """InputError for a budget of energy on a target that knows none."""
        if budget.energy is not None and not self.costs.knows_energy():
            raise InputError(
                f"{self.costs.target.name} does not know what layers take in energy; choose another --target"
            )

    @property
    def _varied(self) -> bool:
        """Whether activations take different amounts of memory in different allocations."""
        return bool(self.costs.floats) or set(self.costs.narrowest.values()) != {UINT8}

    def _least_memory(self) -> int:
        return self.costs.target.memory(self.variants.quantized({}, self.costs.narrowest)).activations

    @staticmethod
    def _size_over(budget: Budget, found: Allocation) -> int:
        return 0 if budget.size is None else found.size - budget.size

    def _activations_over(self, budget: Budget, found: Allocation) -> float:
        """How many times the memory and the mean bits that activations may have an allocation's have; the
        most of both."""
        excess = 0.0
        if budget.memory is not None and self._varied:
            excess = self.costs.target.memory(self.graph(found)).activations / budget.memory
        if budget.activation_bits is not None:
            excess = max(excess, found.shares.activation_bits / budget.activation_bits)
        return excess

    @staticmethod
    def _bits(program: Program, budget: Budget) -> float | None:
        """Of all activations together."""
        return None if budget.activation_bits is None else budget.activation_bits * program.elements

    def _infeasible(self, program: Program, budget: Budget) -> str:
        parts, bits = [], self._bits(program, budget)
        limits = {"size": budget.size, "latency": budget.latency, "bits": bits, "energy": budget.energy}
        several = sum(limit is not None for limit in limits.values()) > 2
        other = f", without the other budget{'s' if several else ''}"
        if budget.size is not None:
            size, alone = self._nearest(program, "size", limits)
            nearest = f"{self._allocation(size).size}{other if alone else ''}"
            parts.append(f"a file of {budget.size} bytes (nearest: {nearest})")
        if budget.latency is not None:
            fastest, alone = self._nearest(program, "latency", limits)
            nearest = f"{fastest.latency:.3g} ms{other if alone else ''}"
            parts.append(f"{budget.latency:g} ms (nearest: {nearest})")
        if budget.energy is not None:
            least, alone = self._nearest(program, "energy", limits)
            nearest = f"{least.energy:.3g} mJ{other if alone else ''}"
            parts.append(f"{budget.energy:g} mJ (nearest: {nearest})")
        if budget.activation_bits is not None:
            least, alone = self._nearest(program, "bits", limits)
            mean = math.ceil(100 * self._allocation(least).shares.activation_bits) / 100
            nearest = f"{mean:.2f}{other if alone else ''}"
            known = ", ".join(str(format.short) for format in self.costs.formats)
            asked = f"activations of {budget.activation_bits:g} bits on average"
            parts.append(f"{asked} (nearest: {nearest}; they may have {known})")
        if (
            budget.memory is not None
            and self.costs.target.memory(self.costs.base).activations > budget.memory
        ):
            parts.append(f"{budget.memory} bytes of activations (nearest: {self._least_memory()})")
        refused = sum(map(bool, self.costs.refused.values()))
        note = f"; {refused} layers are refused their narrowest widths" if refused else ""
        return f"no widths give {' and '.join(parts)}{note}"

    @staticmethod
    def _nearest(program: Program, goal: Goal, limits: Mapping[str, float | None]) -> tuple[Solution, bool]:
        """The least of the goal with the other budgets kept, or (True) without where that is impossible."""
        others = {name: limit for name, limit in limits.items() if name != goal}
        kept = solve(program, goal=goal, **others)
        alone = solve(program, goal=goal) if kept is None else kept
        assert alone is not None
        return alone, kept is None
