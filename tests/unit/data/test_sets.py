"""FOLDER[:crop|squash]: what of the text is the path, and how its images reach the input size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subbyte.data.samples import Sample, batches, load_image, with_resize
from subbyte.data.sets import ImageSet, parse_set, parse_sets
from subbyte.errors import InputError
from subbyte.metrics.robustness import measure_robustness
from subbyte.preprocess import Preprocessing

WIDE = Preprocessing(8, 8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Wider than high, so that cropping and squashing differ."""
    pixels = np.random.default_rng(0).integers(0, 256, (10, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    return tmp_path / "wide.png"


@pytest.mark.parametrize(
    ("text", "folder", "resize"),
    [
        ("a", "a", None),
        ("a:crop", "a", "crop"),
        ("a/b:squash", "a/b", "squash"),
        ("C:/a", "C:/a", None),
        ("a:b:crop", "a:b", "crop"),
        ("a:crop/", "a:crop", None),
        ("a:crop:squash", "a:crop", "squash"),
        (":crop", ":crop", None),
    ],
)
def test_only_a_last_mode_is_no_path(text: str, folder: str, resize: str | None) -> None:
    assert parse_set(text) == ImageSet(Path(folder), resize)


def test_a_wrong_mode_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=":crop or :squash, got 'sqash'"):
        parse_set(f"{tmp_path}:sqash")
    (tmp_path / "a:b").mkdir()
    assert parse_set(f"{tmp_path}/a:b").folder == tmp_path / "a:b"


def test_a_folder_counts_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="given twice"):
        parse_sets([f"{tmp_path}:crop", f"{tmp_path}/.:squash"])


def test_each_image_reaches_the_input_in_its_own_way(image: Path) -> None:
    ways: tuple[str | None, ...] = (None, "squash", "crop")
    (x,) = batches([Sample(image, 0, way) for way in ways], WIDE)
    for row, way in zip(x, ways, strict=True):
        assert np.array_equal(row, load_image(image, with_resize(WIDE, way)))
    assert not np.array_equal(x[1], x[2])


def test_corrupted_images_do_too(image: Path) -> None:
    seen: list[np.ndarray] = []

    def classifier(x: np.ndarray) -> np.ndarray:
        seen.append(x)
        return np.array([[1, 0]] * len(x), np.float32)

    samples = [Sample(image, 0, way) for way in ("squash", "crop")]
    measure_robustness([(classifier, WIDE)], samples, ["brightness"], [1])
    for x, sample in zip(seen, samples, strict=True):
        assert np.array_equal(x[0], load_image(image, with_resize(WIDE, sample.resize)))


def test_what_says_labels(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    with pytest.raises(InputError, match="not a folder"):
        _ = ImageSet(folder).is_labelled
    folder.mkdir()
    (folder / ".cache").mkdir()
    assert not ImageSet(folder).is_labelled
    (folder / "labels.csv").write_text("file,label\n")
    assert ImageSet(folder).is_labelled
    (folder / "labels.csv").rename(folder / "sources.csv")
    (folder / "ant").mkdir()
    assert ImageSet(folder).is_labelled
