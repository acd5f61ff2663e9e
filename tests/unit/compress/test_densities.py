"""Recipes that give a share of all work, and recipes that take channels out: what comes of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subbyte.allocate.densities import PERCENTS
from subbyte.compress import compress
from subbyte.compress.budgeted import _without_idle_pruning
from subbyte.device import Cost, Layer
from subbyte.ir import Graph
from subbyte.ir.ops import macs
from subbyte.quant import Format, QTensor
from subbyte.quant.format import INT8, pattern_named
from subbyte.recipes import STEPS, Recipe, Step
from subbyte.steps.context import Context
from tests.unit.compress.networks import efficientnet_like, random_images

SEEN: list[Context] = []


def look(context: Context) -> Graph:
    """A step that changes nothing."""
    SEEN.append(context)
    return context.graph


@pytest.fixture(autouse=True)
def _looking(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    SEEN.clear()
    monkeypatch.setitem(STEPS, "look", Step(f"{__name__}:look"))


def recipe(*steps: str, pattern: str = "2x4:50", **tables: Any) -> Recipe:
    weights = {"bits": 8, "pattern": pattern}
    return Recipe.model_validate({"name": "r", "weights": weights, "steps": steps, **tables})


def patterns(graph: Graph) -> dict[str, str]:
    found = {node.name: node.params.get("weight") for node in graph.nodes}
    return {name: w.format.pattern.name for name, w in found.items() if isinstance(w, QTensor)}


def percent(name: str) -> int:
    return 100 if name == "dense" else int(name.partition(":")[2])


def test_a_share_of_multiplications_is_left_and_kept_for_the_next_run(tmp_path: Path) -> None:
    graph = efficientnet_like()
    asked, images = recipe("prune", prune={"rounds": 3, "share": 0.6}), [random_images(graph, 16)]
    made = compress(graph, asked, images, work=tmp_path)
    found, work = patterns(made), macs(graph)
    pruned = ("expand", "project", "head")
    assert {percent(found[name]) for name in pruned} <= set(PERCENTS)
    left = sum(work[name] * percent(found[name]) for name in pruned)
    assert left <= 60.0001 * sum(work[name] for name in pruned)
    assert all(found[name] == "dense" for name in found if name not in pruned)
    (place,) = tmp_path.rglob("densities.json")
    assert json.loads(place.read_text()) == {name: found[name] for name in pruned}
    place.write_text(json.dumps({"expand": "2x4:25", "project": "dense", "head": "dense"}))
    for states in tmp_path.rglob("prune-*.pt"):
        states.unlink()
    again = patterns(compress(graph, asked, images, work=tmp_path))
    assert (again["expand"], again["project"]) == ("2x4:25", "dense")


class Slow:
    """A device on which only `head` gets faster by zeros."""

    def __init__(self) -> None:
        self.prepared: list[str] = []

    def prepare(self, graphs: dict[str, Graph]) -> None:
        self.prepared += graphs

    def cost(self, layer: Layer, weights: Format, activations: Format) -> Cost:
        share = percent(weights.pattern.name) / 100 if layer.weight == (24, 1, 1, 8) else 1.0
        return Cost(share, 0)


def test_a_share_of_time_takes_what_pays_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Slow()
    monkeypatch.setattr("subbyte.compress.graph.find_target", lambda name: device)
    graph = efficientnet_like()
    asked = recipe("prune", prune={"rounds": 3, "share": 0.84, "work": "time"})  # of 3 equal times
    found = patterns(compress(graph, asked, [random_images(graph, 16)]))
    assert (found["expand"], found["project"], found["head"]) == ("dense", "dense", "2x4:50")
    assert device.prepared == [f"{each} %" for each in PERCENTS]


def test_channels_go_before_weights_and_the_whole_network_teaches(tmp_path: Path) -> None:
    graph = efficientnet_like()
    images = [random_images(graph, 16)]
    asked = recipe(
        *("prune_channels", "prune", "bias_correction", "look", "distill"),
        prune_channels={"share": 0.5, "multiple": 4, "rounds": 3},
        prune={"rounds": 3},
        distill={"epochs": 1.0, "batch": 8},
    )
    made = compress(graph, asked, images, work=tmp_path)
    (context,) = SEEN
    weight = made.node("expand").params["weight"]
    assert isinstance(weight, QTensor)
    assert (weight.shape, weight.format.pattern.name) == ((8, 1, 1, 8), "2x4:50")
    assert made.value(made.outputs[0]).shape == graph.value(graph.outputs[0]).shape
    assert np.shape(context.network.node("expand").params["weight"]) == (16, 1, 1, 8)
    assert np.shape(context.teacher.node("expand").params["weight"]) == (8, 1, 1, 8)
    assert np.asarray(context.teacher.node("expand").params["weight"]).all()
    places = sorted(tmp_path.rglob("channels-*.pt"))
    stamps = [place.stat().st_mtime_ns for place in places]
    for states in tmp_path.rglob("distill.pt"):
        states.unlink()
    again = compress(graph, asked, images, work=tmp_path)
    assert [place.stat().st_mtime_ns for place in places] == stamps
    other = again.node("expand").params["weight"]
    assert isinstance(other, QTensor)
    np.testing.assert_array_equal(weight.codes, other.codes)


def test_steps_that_change_shapes_come_first() -> None:
    with pytest.raises(ValueError, match="'prune_channels' changes the shapes of weights; list it first"):
        recipe("prune", "prune_channels")


def test_a_step_that_no_layer_gave_work_is_left_out_under_budgets() -> None:
    asked = recipe("prune", "bias_correction")
    sparse = {"a": INT8, "b": replace(INT8, pattern=pattern_named("2:4"))}
    assert _without_idle_pruning(asked, sparse) == asked
    assert _without_idle_pruning(asked, {"a": INT8}).steps == ("bias_correction",)
