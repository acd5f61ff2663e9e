"""A step that the package does not have: what adding one takes.

A real one is a row and its configuration in subbyte/recipes/steps.py, and its function in a new file of
subbyte/steps. Here the row stands in this file; nothing else is touched.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from subbyte import Artifact, Preprocessing, compress_model
from subbyte.errors import InputError, RecipeError
from subbyte.ir import Graph
from subbyte.recipes import STEPS, Step, list_recipes, load_recipe
from subbyte.steps.context import Context

PREPROCESSING = Preprocessing(8, 8, (0.0,) * 3, (1.0,) * 3)
IMAGES = np.random.default_rng(0).standard_normal((6, 8, 8, 3)).astype(np.float32)
LABELS = np.array([3, 1, 4, 1, 5, 9])


class Sparing(BaseModel):
    """below: integer biases of a smaller magnitude become zero."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    below: int = Field(default=5, ge=0)


SEEN: list[Context] = []


def spare_biases(context: Context) -> Graph:
    """Biases of few units cost bytes and change little."""
    SEEN.append(context)
    nodes = []
    for node in context.graph.nodes:
        if "bias" in node.params:
            bias = np.asarray(node.params["bias"])
            kept = np.where(np.abs(bias) < context.configuration.below, 0, bias).astype(np.int32)
            node = node.with_(params={**node.params, "bias": kept})
        nodes.append(node)
    return replace(context.graph, nodes=tuple(nodes))


@pytest.fixture(autouse=True)
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    SEEN.clear()
    step = Step(f"{__name__}:spare_biases", Sparing(), after=(), words="rid of small biases")
    monkeypatch.setitem(STEPS, "spare", step)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    )


def compressed(recipe: str, labels: np.ndarray | None = None) -> Artifact:
    return compress_model(network(), recipe, [IMAGES], preprocessing=PREPROCESSING, labels=labels)


def biases(artifact: Artifact) -> np.ndarray:
    return np.concatenate([np.asarray(n.params["bias"]) for n in artifact.graph.nodes if "bias" in n.params])


def written(folder: Path, table: str) -> str:
    path = folder / "mine.toml"
    path.write_text(f'name = "mine"\nsteps = ["spare"]\n{table}')
    return str(path)


def test_a_recipe_file_runs_it_as_its_table_says(tmp_path: Path) -> None:
    plain = biases(compressed("w8a8"))
    small = int(np.median(np.abs(plain)))
    artifact = compressed(written(tmp_path, f"[spare]\nbelow = {small}"))
    assert artifact.recipe["spare"] == {"below": small}
    assert 0 < np.count_nonzero(biases(artifact)) < np.count_nonzero(plain)
    default = compressed(written(tmp_path, ""))
    assert default.recipe["spare"] == {"below": 5}
    (first, second) = SEEN
    assert first.configuration == Sparing(below=small)
    assert second.configuration == Sparing()
    assert np.array_equal(first.images, IMAGES)


def test_the_errors_are_those_of_any_table(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"spare\.above: there is no such option"):
        load_recipe(written(tmp_path, "[spare]\nabove = 1"))
    with pytest.raises(RecipeError, match=r"spare\.below: Input should be greater"):
        load_recipe(written(tmp_path, "[spare]\nbelow = -1"))
    with pytest.raises(RecipeError, match="unspare: there is no such option"):
        load_recipe(written(tmp_path, "[unspare]\nbelow = 1"))
    (tmp_path / "bad.toml").write_text('name = "bad"\nsteps = ["magic"]')
    with pytest.raises(
        RecipeError,
        match=r"steps.0: Input should be 'prune_channels', 'prune', .* or 'spare'",
    ):
        load_recipe(tmp_path / "bad.toml")


def test_names_of_recipes_can_end_in_it() -> None:
    assert "w4a8-spare" in list_recipes()
    recipe = load_recipe("w4a8-spare")
    assert recipe.steps == ("bias_correction", "spare")
    assert recipe.description.endswith(" Then rid of small biases.")


def test_recipes_without_it_stay_as_they_were() -> None:
    assert "spare" not in load_recipe("w4a8-distill").model_dump()


def test_a_step_that_needs_labels_gets_those_of_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STEPS, "spare", replace(STEPS["spare"], needs=("images", "labels")))
    recipe = written(tmp_path, "")
    with pytest.raises(InputError, match="the step 'spare' needs labels: the class index of each"):
        compressed(recipe)
    with pytest.raises(InputError, match="there are 5 labels of 6 calibration images"):
        compressed(recipe, LABELS[:5])
    with pytest.raises(InputError, match=r"labels must be int64 \[N\], got float32 \[6\]"):
        compressed(recipe, LABELS.astype(np.float32))
    assert SEEN == []
    compressed(recipe, LABELS)
    assert SEEN[0].labels is not None
    assert np.array_equal(SEEN[0].labels, LABELS)
    monkeypatch.setattr("subbyte.compress.graph.IMAGE_BYTES", 0)  # room for the least that is kept
    twice = np.concatenate([IMAGES, IMAGES, IMAGES])
    compress_model(
        network(), recipe, [twice], preprocessing=PREPROCESSING, labels=np.arange(18, dtype=np.int64)
    )
    assert SEEN[1].labels is not None
    assert 4 < len(SEEN[1].labels) == len(SEEN[1].images) < 18
    assert np.array_equal(SEEN[1].images, twice[SEEN[1].labels])


def test_a_step_that_needs_no_images_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STEPS, "spare", replace(STEPS["spare"], needs=()))
    compressed(written(tmp_path, ""))
    assert SEEN[0].images.shape == (0, 8, 8, 3)
