"""Decisions by shape and by texture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subbyte.errors import InputError
from subbyte.metrics.cue_conflict import ShapeBias, read_cue_conflict, shape_bias
from subbyte.preprocess import Preprocessing

PLAIN = Preprocessing(4, 4, (0.0,) * 3, (1.0,) * 3, "nearest", 1.0)
CATEGORIES = {"cat": [0, 1], "dog": [2], "elk": [3, 4, 5]}
ROWS = ["a.png,cat,dog", "b.png,cat,cat", "c.png,dog,elk", "d.png,elk,cat", "e.png,cat,elk"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, row in enumerate(ROWS):
        Image.new("RGB", (4, 4), (50 * i, 0, 0)).save(tmp_path / row.split(",")[0])
    (tmp_path / "labels.csv").write_text("\n".join(["file,shape,texture", *ROWS]) + "\n")
    (tmp_path / "categories.json").write_text(json.dumps(CATEGORIES))
    return tmp_path


def by_colour(answers: dict[int, list[float]]):  # type: ignore[no-untyped-def]
    """Logits by the red of the image, in steps of 50."""

    def predictor(x: np.ndarray) -> np.ndarray:
        return np.array([answers[round(float(v) * 5.1)] for v in x[:, 0, 0, 0]], np.float32)

    return predictor


def test_conflicts_are_read_and_agreement_is_left_out(folder: Path) -> None:
    data = read_cue_conflict(folder, 6)
    assert [sample.path.name for sample in data.samples] == ["a.png", "c.png", "d.png", "e.png"]
    assert (data.shape, data.texture) == (("cat", "dog", "elk", "cat"), ("dog", "elk", "cat", "elk"))


def test_decisions_are_by_the_mean_probability_of_a_category(folder: Path) -> None:
    """Image a: probabilities 0.6 for one of two cats is a mean of 0.3, less than a dog's 0.35; the sum
    or the maximum would say cat. Image d: no cue of its own."""
    logs = {
        0: np.log([0.6, 0.001, 0.35, 0.02, 0.02, 0.009]),  # dog, its texture
        2: np.log([0.1, 0.1, 0.5, 0.1, 0.1, 0.1]),  # dog, its shape
        3: np.log([0.1, 0.1, 0.5, 0.1, 0.1, 0.1]),  # dog, neither
        4: np.log([0.4, 0.4, 0.05, 0.05, 0.05, 0.05]),  # cat, its shape
    }
    answers = {key: list(map(float, value)) for key, value in logs.items()}
    result = shape_bias(by_colour(answers), read_cue_conflict(folder, 6), PLAIN, batch=3)
    assert result == ShapeBias(n=4, shape=2, texture=1)
    assert result.bias == pytest.approx(2 / 3)
    assert result.accuracy == 0.5
    assert result.to_json()["shape_bias"] == result.bias


def test_no_decision_for_a_cue_is_no_bias() -> None:
    assert ShapeBias(3, 0, 0).bias is None


def test_refuses(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names class 5; the network has 5"):
        read_cue_conflict(folder, 5)
    for text, message in (
        ("{", "cannot read"),
        ("[]", "must map"),
        ('{"cat": [-1]}', "must map"),
        ("{}", "'cat'"),
    ):
        (folder / "categories.json").write_text(text)
        with pytest.raises(InputError, match=message):
            read_cue_conflict(folder, 6)
    (folder / "categories.json").write_text(json.dumps(CATEGORIES))
    (folder / "labels.csv").write_text("file,shape\na.png,cat\n")
    with pytest.raises(InputError, match="columns file, shape and texture"):
        read_cue_conflict(folder, 6)
    for line in ("a.png,cat", "a.png,cat,", "a.png"):
        (folder / "labels.csv").write_text(f"file,shape,texture\n{line}\n")
        with pytest.raises(InputError, match="columns file, shape and texture, filled in every line"):
            read_cue_conflict(folder, 6)
    for file in ("../a.png", str(folder / "a.png")):
        (folder / "labels.csv").write_text(f"file,shape,texture\na.png,cat,dog\n{file},cat,dog\n")
        with pytest.raises(InputError, match="line 3: the file must be inside the folder of the table"):
            read_cue_conflict(folder, 6)
    (folder / "labels.csv").write_text("file,shape,texture\na.png,cat,cat\n")
    with pytest.raises(InputError, match="no image whose shape and texture differ"):
        read_cue_conflict(folder, 6)
    with pytest.raises(InputError, match=r"needs a labels\.csv"):
        read_cue_conflict(folder / "none", 6)
