"""A task of a user's own: the direction that an object faces, as the cosine and sine of an angle.

A real addition is a file in `subbyte/tasks` with such a class, its row in TASKS (`subbyte/tasks/table.py`),
and a test. No other file changes: distillation, measures, labels, commands and the report ask the row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

import subbyte
from subbyte.analysis.degradation import Meter
from subbyte.cli.app import app
from subbyte.data.labels import numbered_folder
from subbyte.data.samples import Sample, batches
from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.preprocess import Preprocessing
from subbyte.recipes import Recipe
from subbyte.tasks import TASKS, Task
from subbyte.tasks.task import Guess, Outputs, labels_of, shapes

WAY = Preprocessing(16, 16, (0.5,) * 3, (0.25,) * 3)


class Heading(Task[np.ndarray]):
    """Answers are angles, float64 [n], radians; labels too. Opposite directions score 0, equal ones 1."""

    name = "heading"
    title = "heading score"
    key = "heading"
    score_keys = ("heading",)
    alike_title = "alignment"
    gallery = "Angles in radians."
    losses = 0

    def check(self, graph: Graph) -> None:
        if shapes(graph) != [(2,)]:
            raise InputError(f"the network's outputs have the shapes {shapes(graph)}: a heading is 2 numbers")

    def distillation_loss(self, made: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        self.losses += 1
        return super().distillation_loss(made, wanted)

    def label_loss(self, made: Sequence[Tensor], labels: Tensor) -> Tensor:
        return (made[0] - torch.stack([labels.cos(), labels.sin()], 1)).square().mean()

    def answers(self, outputs: Outputs, frames: np.ndarray | None = None) -> np.ndarray:
        x, y = outputs[0].astype(np.float64).T
        return np.arctan2(y, x)

    def joined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(parts)

    def alike(self, answers: np.ndarray, other: np.ndarray) -> np.ndarray:
        return (1 + np.cos(answers - other)) / 2

    def read(self, folder: Path, graph: Graph, classes: Sequence[str] | None) -> list[Sample]:
        return numbered_folder(folder, 1)

    def credit(self, answers: np.ndarray, samples: Sequence[Sample]) -> np.ndarray:
        return self.alike(answers, labels_of(samples, len(answers))[:, 0])

    def described(self, answers: np.ndarray, index: int, names: Sequence[str] | None) -> dict[str, Any]:
        return {"radians": float(answers[index])}

    def lines(self, described: Mapping[str, Any]) -> list[tuple[str, ...]]:
        return [("heading", f"{described['radians']:.3f} rad")]

    def guess(self, answers: np.ndarray, index: int, sample: Sample, names: Sequence[str] | None) -> Guess:
        share = float(self.credit(answers[index : index + 1], [sample])[0])
        return Guess(f"{answers[index]:.3f} rad", f"{share:.2f}", share > 0.9)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(128, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


@pytest.fixture
def heading(monkeypatch: pytest.MonkeyPatch) -> Heading:
    torch.set_num_threads(1)
    monkeypatch.setenv("COLUMNS", "200")
    task = Heading()
    monkeypatch.setitem(TASKS, "heading", task)
    return task


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng, rows = np.random.default_rng(5), ["file,angle"]
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path / f"{i:02}.png")
        rows.append(f"{i:02}.png,{rng.uniform(-3, 3):.3f}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_a_task_is_distilled_measured_evaluated_and_shown(heading: Heading, folder: Path) -> None:
    samples = numbered_folder(folder, 1)
    images = list(batches(samples, WAY))
    recipe = Recipe.model_validate(
        {"name": "short", "weights": {"bits": 4}, "steps": ["distill"], "distill": {"epochs": 2, "batch": 4}}
    )
    network = Network().eval()
    exact, small = (
        subbyte.compress_model(network, which, images, preprocessing=WAY, task="heading")
        for which in ("fp32", recipe)
    )
    assert heading.losses == 6  # two epochs of three batches
    assert small.provenance["task"] == "heading"
    degradation = Meter(exact.graph, np.concatenate(images), task="heading").of(small.graph)
    assert degradation.kl is None
    paths = [folder / "exact.subbyte", folder / "small.subbyte"]
    for path, artifact in zip(paths, (exact, small), strict=True):
        subbyte.save(path, artifact)

    def command(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    evaluate = ("evaluate", paths[1], "--data", folder, "--against", paths[0])
    row = json.loads(command(*evaluate, "--json"))
    assert row["task"] == "heading"
    assert row["agreement"] == pytest.approx(degradation.agreement, abs=1e-12)
    assert "heading score beside it" in command(*evaluate)
    (said,) = json.loads(command("run", paths[1], folder / "03.png", "--json"))
    assert f"{said['radians']:.3f} rad" in command("run", paths[1], folder / "03.png")
    (first, second) = json.loads(
        command("report", *paths, "--data", folder, "--output", folder / "r.html", "--json")
    )
    assert (
        second["heading"] == row["heading"] == pytest.approx(first["heading"] + row["difference"], abs=1e-12)
    )
    page = (folder / "r.html").read_text()
    assert "heading score, %" in page
    assert f"{said['radians']:.3f} rad" in page


def test_outputs_that_do_not_fit_are_one_error(heading: Heading) -> None:
    wide = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(784, 3)).eval()
    with pytest.raises(InputError, match="a heading is 2 numbers"):
        subbyte.compress_model(wide, "fp32", preprocessing=WAY, task="heading")
