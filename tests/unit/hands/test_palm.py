"""Palms: anchors, decoding and merging on examples worked by hand, and a tiny detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from subbyte.errors import InputError
from subbyte.hands import PalmDetector, Region
from subbyte.hands.palm import NUMBERS, anchors, decode, merged, overlap
from tests.unit.hands.networks import BEST, SIZE

IDENTITY = Region(96, 96, 192, size=192)


def test_anchors_of_192_pixels() -> None:
    centres = anchors(192)
    assert centres.shape == (2016, 2)  # as MediaPipe's networks have
    np.testing.assert_array_equal(centres[:4], [[4, 4], [4, 4], [12, 4], [12, 4]])
    np.testing.assert_array_equal(centres[2 * 24], [4, 12])
    np.testing.assert_array_equal(
        centres[2 * 24**2 + np.array([0, 5, 6, 6 * 12])], [[8, 8], [8, 8], [24, 8], [8, 24]]
    )


def test_decoding() -> None:
    centres = anchors(192)
    boxes, scores = np.zeros((2016, NUMBERS), np.float32), np.full(2016, -50, np.float32)
    boxes[3] = [1, 2, 20, 10, *range(14)]
    scores[3] = 3
    (palm,) = decode(boxes.ravel(), scores, centres, Region(50, 40, 96, size=192))
    assert palm.score == pytest.approx(1 / (1 + np.exp(-3)))
    # the anchor is at (12, 4); the image's pixels are twice as large, and (2, -8) is the input's first
    np.testing.assert_allclose(
        palm.box, [2 + (13 - 10) / 2, -8 + (6 - 5) / 2, 2 + (13 + 10) / 2, -8 + (6 + 5) / 2]
    )
    np.testing.assert_allclose(palm.points[0], [2 + 12 / 2, -8 + (4 + 1) / 2])
    np.testing.assert_allclose(palm.points[6], [2 + (12 + 12) / 2, -8 + (4 + 13) / 2])
    scores[3] = -0.001
    assert decode(boxes.ravel(), scores, centres, IDENTITY) == []


def test_scores_far_out_are_no_overflow() -> None:
    boxes, scores = np.zeros((2016, NUMBERS), np.float32), np.full(2016, -1e30, np.float32)
    scores[7] = 1e30
    with np.errstate(all="raise"):
        (palm,) = decode(boxes.ravel(), scores, anchors(192), IDENTITY)
    assert palm.score == 1
    with pytest.raises(InputError, match="square"):
        palm.region()


def test_overlap() -> None:
    box = np.array([[0, 0], [10, 10]], float)
    others = np.array([[[5, 0], [15, 10]], [[20, 20], [30, 30]], [[0, 0], [10, 10]], [[3, 3], [3, 3]]], float)
    np.testing.assert_allclose(overlap(box, others), [50 / 150, 0, 1, 0])
    assert overlap(others[3], others[3:]) == 0


def test_merging() -> None:
    def corners(x: float) -> np.ndarray:
        return np.array([[x, 0], [x + 10, 10], *([[x, x]] * 7)])

    first, second, far = merged(
        np.stack([corners(30), corners(0), corners(2), corners(8)]), np.array([0.6, 0.5, 0.9, 0.7])
    )
    # 2 and 0 overlap by 8 / 12; 8 and 2 by 4 / 16, so that one stays by itself
    assert (first.score, second.score, far.score) == (0.9, 0.7, 0.6)
    mean = (0.9 * 2 + 0.5 * 0) / 1.4
    np.testing.assert_allclose(first.box, [mean, 0, mean + 10, 10])
    np.testing.assert_allclose(first.points, mean)
    np.testing.assert_allclose(second.box, [8, 0, 18, 10])
    assert merged(np.zeros((0, 9, 2)), np.zeros(0)) == []


def test_a_detector(files: tuple[Path, Path]) -> None:
    detector = PalmDetector(files[0])
    assert detector.size == SIZE
    (palm,) = detector.find(np.full((64, 48, 3), 255, np.uint8))
    x, y = anchors(SIZE)[BEST] * 2 - (8, 0)  # pixels of the image, which has a black bar of 8 at its left
    np.testing.assert_allclose(palm.box, [x - 8, y - 8, x + 8, y + 8], atol=1e-4)
    region = palm.region(16)
    assert (region.angle, region.size) == (0, 16)
    assert region.side == pytest.approx(2.6 * 16)
    assert detector.find(np.zeros((64, 48, 3), np.uint8)) == []


def test_another_network_is_refused(files: tuple[Path, Path]) -> None:
    with pytest.raises(
        InputError, match="a palm detector of 32 x 32 pixels has 1008 of boxes and 56 of scores"
    ):
        PalmDetector(files[1])
