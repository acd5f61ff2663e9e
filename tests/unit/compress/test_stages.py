"""Pruning in stages: what stays in each, what the next one starts from, and what a recipe says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subbyte.compress import compress
from subbyte.compress.stages import trained
from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph
from subbyte.passes.dequantize import dequantize_graph
from subbyte.quant import QTensor
from subbyte.quant.pattern import DENSE
from subbyte.quant.sparsity import find_pattern, fuller
from subbyte.recipes import STEPS, Recipe, Step
from subbyte.steps.context import Context
from subbyte.steps.status import Status
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


def recipe(*steps: str, pattern: str = "2x4:50", bits: int = 4, **prune: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "r",
            "weights": {"bits": bits, "pattern": pattern},
            "steps": ("prune", *steps),
            "prune": {"rounds": 3, **prune},
            **({"distill": {"epochs": 2.0, "batch": 8}} if "distill" in steps else {}),
        }
    )


def weights(graph: Graph) -> dict[str, QTensor]:
    found = {node.name: node.params.get("weight") for node in graph.nodes}
    return {name: weight for name, weight in found.items() if isinstance(weight, QTensor)}


@pytest.mark.parametrize(
    ("pattern", "percent", "found"),
    [
        ("4x16:50", 75, "4x16:75"),
        ("4x16:50", 38, "4x16:50"),
        ("2:4", 75, "3:4"),
        ("2:4", 62, "3:4"),
        ("2:4", 76, "dense"),
        ("2:4", 25, "2:4"),
        ("8:16", 62, "10:16"),
        ("dense", 50, "dense"),
    ],
)
def test_fuller_keeps_more_of_the_same(pattern: str, percent: int, found: str) -> None:
    plain = find_pattern(pattern)
    assert plain is not None
    assert fuller(plain, percent).name == found


def test_each_stage_keeps_less_and_begins_with_what_the_one_before_has_trained() -> None:
    graph = efficientnet_like()
    images = [random_images(graph, 16)]
    told: list[str] = []
    compress(
        graph,
        recipe("distill", "look", stages=[75, 62]),
        images,
        progress=lambda stage, done: told.append(stage),
    )
    first, second, last = SEEN
    for context, percent, bits in ((first, 75, 8), (second, 62, 8), (last, 50, 4)):
        assert context.teacher is first.teacher  # the dense network, in every stage
        sparse = {n: w for n, w in weights(context.graph).items() if w.format.pattern != DENSE}
        assert set(sparse) == {"expand", "project", "head"}
        for weight in sparse.values():
            assert str(weight.format) == f"int{bits}+2x4:{percent}"
    # what a stage prunes has the biases and dense layers of what the one before trained
    for before, after in ((first, second), (second, last)):
        real = dequantize_graph(before.graph)
        stem = before.graph.node("stem").params["weight"]
        assert isinstance(stem, QTensor)
        np.testing.assert_array_equal(after.original.node("stem").params["weight"], stem.dequantize())
        np.testing.assert_array_equal(
            after.original.node("stem").params["bias"], real.node("stem").params["bias"]
        )
    assert told.index("75 % kept: calibrate") < told.index("62 % kept: calibrate") < told.index("calibrate")


def test_what_is_trained_is_the_float_network_of_the_codes() -> None:
    graph = efficientnet_like()
    images = random_images(graph, 8)
    made = compress(graph, recipe(bits=8), [images])
    real = trained(graph, made)
    assert [node.name for node in real.nodes] == [node.name for node in graph.nodes]
    for output in graph.outputs:
        np.testing.assert_array_equal(
            torch_executor.run(real, images)[output],
            torch_executor.run(dequantize_graph(made), images)[output],
        )


def test_stages_shorten_training_and_name_what_is_told() -> None:
    told: list[Status] = []

    class Told:
        def __call__(self, stage: str, done: int) -> None:
            pass

        def status(self, status: Status) -> None:
            told.append(status)

    graph = efficientnet_like()
    asked = recipe("distill", stages=[75], stage_training=0.5)
    compress(graph, asked, [random_images(graph, 16)], progress=Told())
    assert {(status.run, status.steps) for status in told} == {("kept-75/distill", 2), ("distill", 4)}


def test_an_interrupted_run_goes_on_to_the_same_result(tmp_path: Path) -> None:
    graph, asked = efficientnet_like(), recipe("distill", stages=[75])
    images = [random_images(graph, 16)]
    whole = compress(graph, asked, images)

    def stop(stage: str, done: int) -> None:
        if stage.startswith("distill") and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress(graph, asked, images, work=tmp_path, progress=stop)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("prune-*.pt")}
    assert len(stamps) == 6  # three layers in two stages
    resumed = compress(graph, asked, images, work=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("prune-*.pt")} == stamps
    for name, weight in weights(whole).items():
        np.testing.assert_array_equal(weight.codes, weights(resumed)[name].codes)
        np.testing.assert_array_equal(weight.scale, weights(resumed)[name].scale)


def test_options() -> None:
    assert "stages" not in recipe().model_dump()["prune"]
    assert recipe(stages=[75]).model_dump(mode="json")["prune"] == {"rounds": 3, "stages": [75]}
    for wrong in ([62, 75], [75, 75]):
        with pytest.raises(ValueError, match=r"stages must fall, like \[75, 62\]"):
            recipe(stages=wrong)
    with pytest.raises(ValueError, match="less than or equal to 99"):
        recipe(stages=[100])
    plain = recipe()
    assert plain.configuration("prune").stages == ()
