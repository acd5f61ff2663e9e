"""Allocation: a format for every layer, so that the network fits its budgets at the least degradation.

From a sensitivity table (what each format costs in KL), the format itself (what it costs in bytes) and a
target (what it costs in time) to a recipe that sets formats and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from subbyte.allocate.budget import Budget
from subbyte.allocate.costs import Costs
from subbyte.allocate.program import Goal, Program, Solution, solve
from subbyte.allocate.recipe import with_formats
from subbyte.artifact import Artifact
from subbyte.device import artifact_bytes
from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.quant import Format
from subbyte.quant.format import INT8, UINT8
from subbyte.quantize.variants import Variants
from subbyte.recipes import Recipe

#: A network and the recipe that made it, as the artifact to be written.
Wrap = Callable[[Graph, Recipe], Artifact]

#: How often the room for recipe and graph description is corrected by a file written to memory.
SIZE_ROUNDS = 8
#: Bytes left free where steps train: other digits of a grid make the compressed description longer.
TRAINING_ROOM = 256


@dataclass(frozen=True)
class Allocation:
    """recipe: of these formats. weights: by layer; activations: by node, where they are not of 8 bits.
    degradation: predicted KL beyond that of 8 bits, nats. size: bytes of the file, rounded to nearest.
    latency: predicted, ms. reasons: by layer that keeps 8 bits, why."""

    recipe: Recipe
    weights: Mapping[str, Format]
    activations: Mapping[str, Format]
    degradation: float
    size: int
    latency: float
    reasons: Mapping[str, str] = field(default_factory=dict)


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
        plain = self._size(dict.fromkeys(costs.names, INT8), {})
        self._rest_bytes = plain - costs.weight_bytes_at_8()

    def program(self) -> Program:
        """The integer program of the layers and groups, without limits."""
        return Program(
            [self.costs.layer_item(name) for name in self.costs.names],
            [self.costs.group_item(index) for index in range(len(self.costs.shared))],
            self._rest_bytes,
            self.costs.rest_latency(),
        )

    def allocate(self, budget: Budget) -> Allocation:
        """The least predicted degradation within the budget's size, latency and memory.

        Raises InputError if no formats fit, naming the nearest values that there are.
        """
        self._check_memory(budget)
        if budget.size is not None and set(self.recipe.steps) - {"bias_correction"}:
            budget = replace(budget, size=budget.size - TRAINING_ROOM)
        program, limit = self.program(), budget.size
        for _ in range(SIZE_ROUNDS):
            solution = solve(program, size=limit, latency=budget.latency)
            if solution is None:
                break
            result = self._allocation(solution)
            if budget.size is None or limit is None or result.size <= budget.size:
                return result
            limit -= max(result.size - budget.size, 64)
        smallest = solve(program, latency=budget.latency, goal="size")
        if smallest is not None and (result := self._allocation(smallest)).size <= (budget.size or 0):
            return result
        raise InputError(self._infeasible(program, budget))

    def smallest(self, budget: Budget) -> int:
        """Bytes of the smallest file within the budget's other limits. InputError if there is none."""
        found = solve(self.program(), latency=budget.latency, goal="size")
        if found is None:
            raise InputError(self._infeasible(self.program(), replace(budget, size=None)))
        return self._allocation(found).size

    def graph(self, allocation: Allocation) -> Graph:
        """The network with the allocation's formats, rounded to nearest."""
        return self.variants.quantized(allocation.weights, allocation.activations)

    def _allocation(self, solution: Solution) -> Allocation:
        narrow = {i: format for i, format in solution.activations.items() if format != UINT8}
        activations = {node: format for i, format in narrow.items() for node in self.costs.shared[i].nodes}
        return Allocation(
            self._recipe(solution.weights, activations),
            solution.weights,
            activations,
            solution.degradation,
            self._size(solution.weights, activations),
            solution.latency,
            {name: self.costs.kept_because(name) for name, f in solution.weights.items() if f == INT8},
        )

    def _size(self, weights: Mapping[str, Format], activations: Mapping[str, Format]) -> int:
        graph = self.variants.quantized(weights, activations)
        return artifact_bytes(self.wrap(graph, self._recipe(weights, activations)))

    def _recipe(self, weights: Mapping[str, Format], activations: Mapping[str, Format]) -> Recipe:
        name, graph = self.recipe.name, self.variants.graph
        return with_formats(self.recipe, graph, weights, activations, name, self.purpose)

    def _check_memory(self, budget: Budget) -> None:
        if budget.memory is None:
            return
        target = self.costs.target
        needed = target.memory(self.costs.base).activations
        if needed > budget.memory:
            raise InputError(
                f"activations may take {budget.memory} bytes, but {target.name} needs {needed}; "
                "allow that many"
            )

    def _infeasible(self, program: Program, budget: Budget) -> str:
        parts = []
        if budget.size is not None:
            size, alone = self._nearest(program, "size", None, budget.latency)
            parts.append(f"a file of {budget.size} bytes (nearest: {self._allocation(size).size}{alone})")
        if budget.latency is not None:
            fastest, alone = self._nearest(program, "latency", budget.size, None)
            parts.append(f"{budget.latency:g} ms (nearest: {fastest.latency:.3g} ms{alone})")
        refused = sum(map(bool, self.costs.refused.values()))
        note = f"; {refused} layers are refused their narrowest widths" if refused else ""
        return f"no widths give {' and '.join(parts)}{note}"

    @staticmethod
    def _nearest(
        program: Program, goal: Goal, size: int | None, latency: float | None
    ) -> tuple[Solution, str]:
        """The least of the goal with the other budget kept, or without it where that is impossible."""
        kept = solve(program, size=size, latency=latency, goal=goal)
        alone = solve(program, goal=goal) if kept is None else kept
        assert alone is not None
        return alone, "" if kept is not None else ", without the other budget"
