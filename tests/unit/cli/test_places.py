"""A detector and a segmentation network through compress, evaluate, run and report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import subbyte
from subbyte.data.masks import IGNORED
from subbyte.data.samples import image_folder
from subbyte.tasks import TASKS, predict

Invoke = Callable[..., Any]
Fails = Callable[..., None]

SIZE = (24, 20)  # of the images, width and height
SOURCE = """
import torch
from torch import nn

class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.ReLU(), nn.Flatten())
        self.boxes, self.scores = nn.Linear(128, 24), nn.Linear(128, 12)
        self.boxes.bias.data += torch.tensor([-1.0, -1.0, 1.0, 1.0] * 6)  # left, top; right, bottom
    def forward(self, x):
        y = self.body(x)
        return self.boxes(y).sigmoid(), (2 * self.scores(y)).sigmoid()

def regions():
    torch.manual_seed(1)
    body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, stride=2, padding=1))
    return body
"""


@pytest.fixture
def made(invoke: Invoke, images: Path, tmp_path: Path) -> Callable[..., list[Path]]:
    """Of a task, the artifacts in float32 and in 8 bits."""
    network = tmp_path / "network.py"
    network.write_text(SOURCE)

    def make(callable_: str, task: str) -> list[Path]:
        paths = [tmp_path / f"{recipe}.subbyte" for recipe in ("fp32", "w8a8")]
        for path in paths:
            own = ("compress", f"{network}:{callable_}", "--input-size", 16, "--recipe", path.stem)
            result = invoke(*own, "--calibration", images, "--output", path, "--task", task)
            assert result.exit_code == 0, result.output
        return paths

    return make


def said(invoke: Invoke, *arguments: object) -> Any:
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_boxes(invoke: Invoke, made: Callable[..., list[Path]], images: Path, tmp_path: Path) -> None:
    exact, small = made("Detector", "detection")
    bare = tmp_path / "bare"  # the same images without labels of classes
    bare.mkdir()
    for path in images.glob("*.png"):
        (bare / path.name).write_bytes(path.read_bytes())
    rows = said(invoke, "run", exact, bare)
    assert any(row["boxes"] for row in rows)
    row = said(invoke, "evaluate", small, "--data", bare, "--against", exact)
    own, answers = (
        predict(
            subbyte.Session(path).run, image_folder(bare), subbyte.load(path).preprocessing, task="detection"
        )
        for path in (small, exact)
    )
    assert row["agreement"] == TASKS["detection"].alike(own, answers).mean() > 0
    assert "map" not in row
    assert "mAP against its boxes" in invoke("evaluate", small, "--data", bare, "--against", exact).stdout
    # what the float network finds as labels: it finds all of it first, whatever else it finds behind
    listed, found = [], []
    for number, row in enumerate(rows):
        listed.append(
            {"id": number, "file_name": Path(row["file"]).name, "width": SIZE[0], "height": SIZE[1]}
        )
        for box in row["boxes"]:
            (left, top, right, bottom), unit = box["box"], SIZE * 2
            edges = [x * s for x, s in zip((left, top, right - left, bottom - top), unit, strict=True)]
            found.append({"image_id": number, "category_id": box["class"], "bbox": edges})
    table = {"images": listed, "annotations": found, "categories": [{"id": i} for i in range(2)]}
    (bare / "labels.json").write_text(json.dumps(table))
    assert said(invoke, "evaluate", exact, "--data", bare)["map"] == 1.0
    row = said(invoke, "evaluate", small, "--data", bare, "--against", exact)
    assert row["map"] == pytest.approx(row["agreement_map"], abs=1e-6)
    page = tmp_path / "page.html"
    assert invoke("report", exact, small, "--data", bare, "--output", page).exit_code == 0
    assert "mAP at overlap 0.5" in page.read_text()


def test_regions(
    invoke: Invoke, fails: Fails, made: Callable[..., list[Path]], images: Path, tmp_path: Path
) -> None:
    exact, small = made("regions", "segmentation")
    folder = tmp_path / "data"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for path in images.glob("*.png"):
        (folder / "images" / path.name).write_bytes(path.read_bytes())
    artifact, samples = subbyte.load(exact), image_folder(folder / "images")
    answers = predict(subbyte.Session(artifact).run, samples, artifact.preprocessing, task="segmentation")
    for i, sample in enumerate(samples):
        classes, inside = answers.at(i, *SIZE[::-1])
        mask = np.full(SIZE[::-1], IGNORED, np.uint8)
        mask[inside] = classes.ravel()
        Image.fromarray(mask).save(folder / "masks" / sample.path.name)
    whole = said(invoke, "evaluate", exact, "--data", folder)
    assert (whole["task"], whole["miou"], whole["pixels"]) == ("segmentation", 1.0, 1.0)
    row = said(invoke, "evaluate", small, "--data", folder, "--against", exact)
    assert 0.8 < row["miou"] <= 1
    assert row["difference"] == pytest.approx(row["miou"] - 1, abs=1e-12)
    bare = said(invoke, "evaluate", small, "--data", folder / "images", "--against", exact)
    assert bare["agreement"] == row["agreement"]
    (first, *_) = said(invoke, "run", small, samples[0].path)
    assert sum(each["share"] for each in first["classes"]) == pytest.approx(1.0, abs=0.003)
    text = invoke("evaluate", small, "--data", folder, "--against", exact).stdout
    for words in ("mIoU", "right pixels", "mIoU of an image", "mIoU beside it"):
        assert words in text
    fails("it needs the folders", "evaluate", small, "--data", folder / "masks")
    source, output = f"{tmp_path}/network.py:Detector", tmp_path / "none.subbyte"
    wrong = ("compress", source, "--input-size", 16, "--recipe", "w8a8", "--task", "segmentation")
    fails("segmentation is one map", *wrong, "--calibration", images, "--output", output)
