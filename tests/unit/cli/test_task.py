"""Key points and plain numbers through every command that knows of tasks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import subbyte
from subbyte.data.labels import numbered_folder
from subbyte.tasks import TASKS, predict

Invoke = Callable[..., Any]
Fails = Callable[..., None]

SOURCE = """
import torch
from torch import nn

def points():
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, stride=2, padding=1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(128, 6))

def several():
    class Several(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Conv2d(1, 8, 3, stride=4), nn.ReLU(), nn.Flatten())
            self.a, self.b = nn.Linear(128, 3), nn.Linear(128, 1)
        def forward(self, x):
            y = self.body(x)
            return self.a(y), self.b(y)
    return Several()
"""
RECIPE = """
name = "short"
steps = ["distill"]
[weights]
bits = 4
[distill]
epochs = 1
batch = 4
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "network.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture(scope="module")
def labelled(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The images of the other tests with three points, or four numbers, each."""
    rng = np.random.default_rng(7)
    folders = {}
    for task, count in (("keypoints", 6), ("regression", 4)):
        folders[task] = tmp_path_factory.mktemp(task)
        rows = ["file," + ",".join(f"n{i}" for i in range(count))]
        for path in sorted(images.glob("*.png")):
            (folders[task] / path.name).write_bytes(path.read_bytes())
            rows.append(path.name + "," + ",".join(f"{x:.3f}" for x in rng.uniform(0.2, 0.8, count)))
        (folders[task] / "labels.csv").write_text("\n".join(rows) + "\n")
    return folders


@pytest.fixture
def made(invoke: Invoke, network: Path, images: Path, tmp_path: Path) -> Callable[..., Path]:
    def make(callable_: str, recipe: object, *more: object) -> Path:
        path = tmp_path / f"{callable_}-{Path(str(recipe)).stem}.subbyte"
        own = ("compress", f"{network}:{callable_}", "--input-size", 16, "--recipe", recipe)
        result = invoke(*own, "--calibration", images, "--output", path, *more)
        assert result.exit_code == 0, result.output
        return path

    return make


def test_key_points_are_evaluated_beside_float32(
    invoke: Invoke, fails: Fails, made: Callable[..., Path], labelled: dict[str, Path]
) -> None:
    data, task = labelled["keypoints"], TASKS["keypoints"]
    one, other = (made("points", recipe, "--task", "keypoints") for recipe in ("w2a8", "fp32"))
    arguments = ("evaluate", one, "--data", data, "--against", other)
    row = json.loads(invoke(*arguments, "--json").stdout)
    samples, way = numbered_folder(data, 6), subbyte.load(one).preprocessing
    own, exact = (predict(subbyte.Session(p).run, samples, way, task="keypoints") for p in (one, other))
    credit = task.credit(own, samples), task.credit(exact, samples)
    assert row["task"] == "keypoints"
    assert row["pck"] == pytest.approx(credit[0].mean(), abs=1e-12)
    assert row["nme"] == task.measured(own, samples)["nme"]
    assert row["agreement"] == task.alike(own, exact).mean()
    assert row["difference"] == pytest.approx((credit[0] - credit[1]).mean(), abs=1e-12)
    text = invoke(*arguments).stdout
    for words in ("PCK@0.1", "normalized mean error", "points within 0.1", "PCK@0.1 beside it"):
        assert words in text
    fails("--corruptions needs the task classification", *arguments, "--corruptions", "fog")
    fails("--cue-conflict needs the task", "evaluate", one, "--cue-conflict", data)
    fails("--reference-accuracy needs the task", *arguments, "--reference-accuracy", "0.5")


def test_several_sets_have_a_row_each(
    invoke: Invoke,
    fails: Fails,
    made: Callable[..., Path],
    labelled: dict[str, Path],
    images: Path,
    tmp_path: Path,
) -> None:
    one, other = (made("points", recipe, "--task", "keypoints") for recipe in ("w8a8", "fp32"))
    copy = shutil.copytree(labelled["keypoints"], tmp_path / "copy")
    arguments = (
        "evaluate",
        one,
        "--data",
        labelled["keypoints"],
        "--data",
        f"{copy}:squash",
        "--against",
        other,
    )
    row = json.loads(invoke(*arguments, "--json").stdout)
    assert [each["images"] for each in row["sets"]] == [12, 12]
    assert row["pck"] == pytest.approx(sum(each["pck"] for each in row["sets"]) / 2, abs=1e-12)
    assert "deviation" in row["between_sets"]
    text = invoke(*arguments).stdout
    assert "together" in text
    assert "PCK@0.1 with that" in text
    # the labels of a classifier are one number an image
    fails("there are 1 numbers, but the network has 6 outputs", "evaluate", one, "--data", images)


def test_an_artifact_says_its_task_unless_it_is_the_default(
    invoke: Invoke, made: Callable[..., Path], labelled: dict[str, Path]
) -> None:
    plain = made("points", "w8a8")
    before = plain.read_bytes()
    assert made("points", "w8a8", "--task", "classification").read_bytes() == before
    assert "task" not in subbyte.load(plain).provenance
    kept = made("points", "w8a8", "--task", "keypoints")
    assert subbyte.load(kept).provenance["task"] == "keypoints"
    # what the artifact does not say, the option does
    plain.write_bytes(before)
    row = json.loads(
        invoke("evaluate", plain, "--data", labelled["keypoints"], "--task", "keypoints", "--json").stdout
    )
    assert "pck" in row


def test_run_shows_points_and_numbers(invoke: Invoke, made: Callable[..., Path], images: Path) -> None:
    one = made("points", "w8a8", "--task", "keypoints")
    image = images / "00.png"
    (row,) = json.loads(invoke("run", one, image, "--json").stdout)
    assert np.array(row["points"]).shape == (3, 2)
    assert f"x {row['points'][0][0]:.4f}" in invoke("run", one, image).stdout
    two = made("several", "w8a8", "--task", "regression", "--channels", 1)
    (row,) = json.loads(invoke("run", two, image, "--json").stdout)
    assert len(row["values"]) == 4
    assert f"{row['values'][3]:.6g}" in invoke("run", two, image).stdout


def test_a_task_of_one_of_two_outputs_is_trained_and_evaluated(
    invoke: Invoke, fails: Fails, made: Callable[..., Path], images: Path, tmp_path: Path
) -> None:
    """Points of three numbers in pixels beside an output that is not judged."""
    (tmp_path / "short.toml").write_text(RECIPE)
    task, grey = "keypoints:16x16:3@0", ("--channels", 1)
    one, other = (
        made("several", recipe, "--task", task, *grey) for recipe in (tmp_path / "short.toml", "fp32")
    )
    labels = {path.name: [0.5, 0.25] for path in images.glob("*.png")}
    data = shutil.copytree(images, tmp_path / "points", ignore=shutil.ignore_patterns("*.csv"))
    (data / "labels.json").write_text(json.dumps(labels))
    row = json.loads(invoke("evaluate", one, "--data", data, "--against", other, "--json").stdout)
    assert row["task"] == task
    samples, way = numbered_folder(data, 2), subbyte.load(one).preprocessing
    own = predict(subbyte.Session(one).run, samples, way, task=task)
    assert row["pck"] == TASKS["keypoints"].credit(own, samples).mean()
    (shown,) = json.loads(invoke("run", one, images / "00.png", "--json").stdout)
    assert np.array(shown["points"]).shape == (1, 2)
    fails("key points are one output", "evaluate", one, "--data", data, "--task", "keypoints@1")


def test_grey_numbers_of_two_outputs_are_evaluated(
    invoke: Invoke, fails: Fails, made: Callable[..., Path], labelled: dict[str, Path]
) -> None:
    two = made("several", "w8a8", "--task", "regression", "--channels", 1)
    data = labelled["regression"]
    row = json.loads(invoke("evaluate", two, "--data", data, "--json").stdout)
    samples, way = numbered_folder(data, 4), subbyte.load(two).preprocessing
    answers = predict(subbyte.Session(two).run, samples, way, task="regression")
    assert way.channels == 1
    assert row["r2"] == TASKS["regression"].score(answers, samples).rate
    assert row["rmse"] >= row["mae"] > 0
    untold = made("several", "fp32", "--channels", 1)
    fails("--task", "evaluate", untold, "--data", data)


def test_distillation_needs_to_know_the_task_of_several_outputs(
    invoke: Invoke, fails: Fails, made: Callable[..., Path], network: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "short.toml").write_text(RECIPE)
    own = ("compress", f"{network}:several", "--input-size", 16, "--channels", 1, "--calibration", images)
    output = tmp_path / "a.subbyte"
    fails(
        "say what the outputs mean with --task", *own, "--recipe", tmp_path / "short.toml", "--output", output
    )
    assert not output.exists()
    fails("unknown task 'hands'", *own, "--recipe", "w8a8", "--output", output, "--task", "hands")
    made("several", tmp_path / "short.toml", "--task", "regression", "--channels", 1)


def test_sensitivity_of_other_tasks_is_a_relative_error(
    invoke: Invoke, network: Path, images: Path, tmp_path: Path
) -> None:
    own = (
        "sensitivity",
        f"{network}:points",
        "--input-size",
        16,
        "--calibration",
        images,
        "--weight-bits",
        "8,2",
    )
    result = invoke(*own, "--activation-bits", "", "--output", tmp_path / "s.json", "--task", "keypoints")
    assert result.exit_code == 0, result.output
    table = json.loads((tmp_path / "s.json").read_text())
    assert table["base"]["kl"] is None
    rows = {(row["nodes"][0], row["format"]): row["degradation"] for row in table["rows"]}
    assert all(row["mse"] >= 0 and 0 <= row["agreement"] <= 1 for row in rows.values())
    assert "relative error" in result.stdout
    assert "nats" not in (tmp_path / "s.html").read_text().partition("<body>")[2].partition("<script>")[0]


def test_widths_are_chosen_for_key_points(invoke: Invoke, made: Callable[..., Path], network: Path) -> None:
    path = made("points", "w8a8", "--task", "keypoints", "--drop", 100)
    held = subbyte.load(path).provenance["held_back"]
    assert "kl" not in held
    assert held["mse"] >= 0


def test_the_report_marks_points_in_the_image(
    invoke: Invoke, made: Callable[..., Path], labelled: dict[str, Path], tmp_path: Path
) -> None:
    artifacts = [made("points", recipe, "--task", "keypoints") for recipe in ("fp32", "w2a8")]
    page, text = tmp_path / "r.html", tmp_path / "r.md"
    rest = ("--data", labelled["keypoints"], "--output", page, "--markdown", text, "--json")
    result = invoke("report", *artifacts, *rest)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert {"pck", "nme", "p"} <= set(rows[0]) & set(rows[1])
    assert not {"top1", "mcnemar_p"} & set(rows[0])
    html = page.read_text()
    assert "PCK@0.1, %" in html
    assert "normalized mean error" in html
    assert html.count("●") == 2 * 12
    assert "top-1" not in html.partition("<body>")[2].partition("<script>")[0]
    assert "| PCK@0.1 |" in text.read_text()
