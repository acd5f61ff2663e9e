"""Chooses the grid of every activation from what calibration saw."""

from __future__ import annotations

from collections.abc import Mapping

from subbyte.errors import RecipeError
from subbyte.execute.reference import activation_function
from subbyte.ir import OPS, Graph, Node, is_weighted
from subbyte.ir.graph import producers
from subbyte.ir.grid_rules import makes_table
from subbyte.ir.shares import sharing
from subbyte.quant import Format, QParams, qparams_from_range
from subbyte.quantize.assignment import Assignment
from subbyte.quantize.histogram import Histogram
from subbyte.quantize.levels import can_make_levels, fitted_grid
from subbyte.quantize.prepare import pre_value
from subbyte.quantize.ranges import choose_grid
from subbyte.recipes import ActivationRange, Recipe

#: Activations whose results fill a known range: their grid covers it whatever calibration saw.
KNOWN_RANGES = {"sigmoid": (0.0, 1.0), "hard_sigmoid": (0.0, 1.0)}


def needs_table(node: Node, y: QParams | None) -> bool:
    """Whether the node, with such a grid of its output, ends with a table behind an 8-bit grid."""
    return is_weighted(node) and makes_table(node.attrs["act"], y)


def value_grids(
    graph: Graph, assignments: Mapping[str, Assignment], recipe: Recipe, seen: Mapping[str, Histogram]
) -> dict[str, QParams]:
    """A grid for every value of the float graph, should it be quantized.

    Values joined by ops that keep their grid share one. The image's grid covers all of its range:
    it is dense up to both ends, so that clipping it never pays. Below 8 bits, what only tables make has
    levels if the recipe says so.
    Raises RecipeError if values that share a grid were asked to have different widths.
    """
    result: dict[str, QParams] = {}
    made = producers(graph)
    for members, sources, format in shared_formats(graph, assignments, recipe):
        makers = [made.get(value) for value in sources]
        if recipe.activations.levels == "learned" and format.bits < 8 and _make_levels(makers, assignments):
            grid = fitted_grid(filter(None, makers), format.bits, seen)
        else:
            grid = _grid(graph, sources, format.bits, recipe, seen)
        result.update(dict.fromkeys(members, grid))
    return result


def _make_levels(makers: list[Node | None], assignments: Mapping[str, Assignment]) -> bool:
    return all(
        node is not None and assignments[node.name].quantized and can_make_levels(node) for node in makers
    )


def shared_formats(
    graph: Graph, assignments: Mapping[str, Assignment], recipe: Recipe
) -> list[tuple[list[str], list[str], Format]]:
    """The values that share a grid, those of them that make it, and its format; RecipeError as above."""
    made, result = producers(graph), []
    for members in sharing(graph):
        sources = [v for v in members if v not in made or not OPS[made[v].op].keeps_grid]
        result.append((members, sources, _common(graph, members, sources, assignments, recipe)))
    return result


def _grid(
    graph: Graph, sources: list[str], bits: int, recipe: Recipe, seen: Mapping[str, Histogram]
) -> QParams:
    if len(sources) == 1:
        node = producers(graph).get(sources[0])
        act = None if node is None else node.attrs.get("act")
        if act in KNOWN_RANGES and len(node.inputs) == 1:  # type: ignore[union-attr]
            return qparams_from_range(*KNOWN_RANGES[act], bits)
    spec = ActivationRange(range="minmax") if graph.input in sources else recipe.activations
    histogram = seen[sources[0]]
    for name in sources[1:]:
        histogram = histogram.merged(seen[name])
    return choose_grid(histogram, spec, bits)


def pre_activation_grid(node: Node, recipe: Recipe, seen: Mapping[str, Histogram]) -> QParams:
    """The 8-bit grid between accumulator and table; least squares are those behind the function."""
    function = activation_function(node.attrs["act"])
    return choose_grid(seen[pre_value(node)], recipe.activations, 8, function)


def _common(
    graph: Graph,
    members: list[str],
    sources: list[str],
    assignments: Mapping[str, Assignment],
    recipe: Recipe,
) -> Format:
    made = producers(graph)
    wanted = {v: assignments[made[v].name].activations for v in sources if v in made}
    wanted |= {v: recipe.first.activations for v in sources if v not in made}
    wanted |= {
        v: assignments[made[v].name].activations
        for v in members
        if v in made and assignments[made[v].name].asked
    }
    if len(set(wanted.values())) > 1:
        listed = ", ".join(f"{name!r} {format.short}" for name, format in sorted(wanted.items()))
        raise RecipeError(f"these values share one grid but are to have different bits: {listed}")
    return next(iter(wanted.values()))
