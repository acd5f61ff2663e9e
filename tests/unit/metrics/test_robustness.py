"""Classifiers on corrupted images: who sees what, and what is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subbyte.data.corruptions import corrupt
from subbyte.data.samples import Sample
from subbyte.errors import InputError
from subbyte.metrics import robustness as rb
from subbyte.metrics.statistics import mean_interval
from subbyte.preprocess import Preprocessing

PLAIN = Preprocessing(12, 12, (0.0,) * 3, (1.0,) * 3, "nearest", 1.0)
FAMILIES, SEVERITIES = ("gaussian_noise", "fog"), (1, 5)


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8)).save(tmp_path / f"{i}.png")
    return [Sample(tmp_path / f"{i}.png", i % 2) for i in range(3)]


class Recorder:
    """Keeps what it sees; always says class 0."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.seen.extend(x)
        return np.tile(np.array([1, 0], np.float32), (len(x), 1))


def test_everyone_sees_the_same_images_normalized_in_its_own_way(samples: list[Sample]) -> None:
    first, second = Recorder(), Recorder()
    other = replace(PLAIN, mean=(0.5,) * 3, std=(0.25,) * 3)
    done: list[int] = []
    rb.measure_robustness(
        [(first, PLAIN), (second, other)], samples, FAMILIES, SEVERITIES, progress=done.append
    )
    assert done == [1, 2, 3]
    assert len(first.seen) == len(second.seen) == 3 * 5
    np.testing.assert_allclose((np.stack(first.seen) - 0.5) / 0.25, np.stack(second.seen), atol=1e-5)
    with Image.open(samples[1].path) as image:
        pixels = np.asarray(image)
    np.testing.assert_allclose(first.seen[5], pixels / np.float32(255), atol=1e-6)
    np.testing.assert_allclose(first.seen[9], corrupt(pixels, "fog", 5) / np.float32(255), atol=1e-6)


def test_answers_are_counted_by_family_and_severity(samples: list[Sample]) -> None:
    """Right on all clean images, and of the corrupted ones only on fog of severity 5."""
    calls = [0]

    def classifier(x: np.ndarray) -> np.ndarray:
        label = [0, 1, 0][calls[0]]
        calls[0] += 1
        says = np.array([label, 1 - label, 1 - label, 1 - label, label])
        return np.eye(2, dtype=np.float32)[says]

    (result,) = rb.measure_robustness([(classifier, PLAIN)], samples, FAMILIES, SEVERITIES)
    assert result.clean.tolist() == [True] * 3
    assert result.grid.tolist() == [[0, 0], [0, 1]]
    assert (result.mean, result.relative) == (0.25, 0.25)
    plain = result.to_json()
    assert plain["top1"] == {"gaussian_noise": [0, 0], "fog": [0, 3]}
    assert (plain["clean_top1"], plain["severities"]) == (3, [1, 5])


def robust(right: np.ndarray) -> rb.Robustness:
    return rb.Robustness(("fog",), (1, 2), np.ones(len(right), bool), right[:, None, :].astype(bool))


def test_change_is_paired_by_image() -> None:
    """Two networks that fail on the same images differ by nothing, with an interval of nothing."""
    a = robust(np.array([[1, 1], [1, 0], [0, 0], [1, 1]]))
    assert a.change(a) == (0.0, (0.0, 0.0))
    b = robust(np.array([[1, 1], [1, 1], [1, 0], [1, 1]]))
    difference, interval = b.change(a)
    assert difference == pytest.approx(0.25)
    assert interval == pytest.approx(mean_interval(np.array([0, 0.5, 0.5, 0]), -1, 1))
    assert a.interval() == pytest.approx(mean_interval(np.array([1, 0.5, 0, 1]), 0, 1))


def test_relative_to_nothing() -> None:
    nothing = rb.Robustness(("fog",), (1,), np.zeros(2, bool), np.zeros((2, 1, 1), bool))
    assert nothing.relative is None


def test_severities() -> None:
    assert rb.parse_severities("1, 3,5,3") == (1, 3, 5)
    for text in ("0", "6", "1,,2", "", "x"):
        with pytest.raises(InputError, match="from 1 to 5"):
            rb.parse_severities(text)


def test_refuses(samples: list[Sample]) -> None:
    for bad in ([], [replace(samples[0], label=None)]):
        with pytest.raises(InputError, match="labelled images"):
            rb.measure_robustness([(Recorder(), PLAIN)], bad, FAMILIES, SEVERITIES)
