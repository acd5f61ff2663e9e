"""How much of each layer stays, where a recipe gives a share of all work: docs/sparsity-choosing.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from subbyte.allocate.densities import PERCENTS, Work, distributed
from subbyte.device import Target, layers
from subbyte.device.target import reads
from subbyte.ir import Graph
from subbyte.ir.graph import weights_of
from subbyte.prune.layout import Layout
from subbyte.quant.format import pattern_named
from subbyte.quantize.assignment import Assignment
from subbyte.quantize.attach import attach
from subbyte.quantize.histogram import Histogram
from subbyte.recipes import Pruning, Recipe
from subbyte.steps.context import Context
from subbyte.steps.prune import chosen_layouts
from subbyte.system.whole_file import write_whole

Assignments = dict[str, Assignment]


def with_densities(
    context: Context,
    asked: Assignments,
    recipe: Recipe,
    seen: Mapping[str, Histogram],
    target: Target,
) -> Assignments:
    """What is asked of the nodes, the patterns of blocks being those that leave `share` of all work.

    context: of the float graph before the step, whose configuration is Pruning with a share. seen: its
    calibration, and target: the device, where times count. The work folder keeps what was chosen.
    Raises InputError or RecipeError as `distributed` does.
    """
    pruning: Pruning = context.configuration
    assert pruning.share is not None
    place = None if context.work is None else context.work / "densities.json"
    found = _kept(place)
    if found is None:
        work = _times(context, asked, recipe, seen, target) if pruning.work == "time" else None
        found = distributed(context, pruning.share, work)
        if place is not None:
            write_whole(place, [json.dumps(found, indent=1).encode()])
    return with_patterns(asked, found)


def with_patterns(asked: Mapping[str, Assignment], patterns: Mapping[str, str]) -> Assignments:
    """The same with these patterns, by node and by their names."""
    return {
        name: replace(each, weights=replace(each.weights, pattern=pattern_named(patterns[name])))
        if name in patterns
        else each
        for name, each in asked.items()
    }


def _times(
    context: Context,
    asked: Assignments,
    recipe: Recipe,
    seen: Mapping[str, Histogram],
    target: Target,
) -> dict[str, Work]:
    """Of each layer with a pattern, by per cent of its blocks that stay: milliseconds on the device."""
    layouts = chosen_layouts(context.original, context.formats)
    graphs: dict[int, Graph] = {}
    for percent in PERCENTS:
        patterns = {name: _pattern(layout, percent) for name, layout in layouts.items()}
        graphs[percent] = attach(context.original, with_patterns(asked, patterns), recipe, seen)
    target.prepare({f"{percent} %": graph for percent, graph in graphs.items()})
    times: dict[str, dict[int, float]] = {name: {} for name in layouts}
    for percent, graph in graphs.items():
        known = layers(graph)
        for name in layouts:
            node = graph.node(name)
            times[name][percent] = target.cost(known[name], weights_of(node), reads(graph, node)).time
    return dict(times)


def _pattern(layout: Layout, percent: int) -> str:
    return "dense" if percent == 100 else f"{layout.inputs}x{layout.outputs}:{percent}"


def _kept(place: Path | None) -> dict[str, str] | None:
    if place is None or not place.exists():
        return None
    found: dict[str, str] = json.loads(place.read_text("utf-8"))
    return found
