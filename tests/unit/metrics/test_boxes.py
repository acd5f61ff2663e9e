"""Overlap, suppression and average precision beside cases that are worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from subbyte.metrics.boxes import OVERLAPS, Precision, match, overlap, suppressed

NONE = np.zeros(0, bool)


def boxes(*edges: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(edges, np.float64).reshape(-1, 4)


def test_overlap_is_intersection_over_union_and_over_the_box_in_a_crowd() -> None:
    one, two = boxes((0, 0, 2, 2), (5, 5, 5, 9)), boxes((1, 0, 3, 2), (0, 0, 10, 10), (5, 5, 5, 9))
    expected = np.array([[2 / 6, 4 / 100, 0], [0, 0, 0]])
    np.testing.assert_allclose(overlap(one, two), expected, rtol=1e-15)
    crowd = overlap(one, two, np.array([False, True, False]))
    np.testing.assert_allclose(crowd[0], np.array([2 / 6, 1.0, 0]), rtol=1e-15)


def test_suppression_keeps_the_surest_of_those_that_overlap() -> None:
    found = boxes((0, 0, 10, 10), (0, 0, 10, 9), (0, 0, 10, 4), (20, 0, 30, 10))
    scores = np.array([0.6, 0.9, 0.8, 0.1])
    # the second overlaps the first by 0.9, the third by 4/9; the third overlaps the first by 0.4
    assert suppressed(found, scores, 0.5).tolist() == [1, 2, 3]
    assert suppressed(found, scores, 0.4).tolist() == [1, 3]
    assert suppressed(boxes(), np.zeros(0), 0.5).tolist() == []


def test_average_precision_by_hand() -> None:
    """Three boxes are there, two in the first image. Found, by score: right, wrong, right, a second time the
    same. Precision 1, 1/2, 2/3, 1/2 at recall 1/3, 1/3, 2/3, 2/3: 1 at the 34 recalls up to 0.33, 2/3 at the
    33 up to 0.66, else 0."""
    first = match(
        boxes((0, 0, 10, 10), (50, 50, 60, 60), (0, 0, 10, 10)),
        np.array([0.9, 0.8, 0.6]),
        boxes((0, 0, 10, 10), (20, 20, 30, 30)),
        np.zeros(2, bool),
    )
    second = match(boxes((0, 0, 10, 8)), np.array([0.7]), boxes((0, 0, 10, 10)), np.zeros(1, bool))
    nothing = match(boxes(), np.zeros(0), boxes(), NONE)
    precision = Precision([first, second, nothing])
    found = precision.of(np.ones(3, bool))
    at_most = OVERLAPS <= 0.8 + 1e-9  # the second image's box overlaps by 0.8
    np.testing.assert_allclose(found[at_most], (34 + 33 * 2 / 3) / 101, rtol=1e-12)
    np.testing.assert_allclose(found[~at_most], 34 / 101, rtol=1e-12)
    np.testing.assert_allclose(precision.of(np.array([False, True, True]))[at_most], 1.0)
    assert np.isnan(precision.of(np.array([False, False, True]))).all()


def test_each_box_is_found_once_by_the_surest_and_a_crowd_counts_for_nothing() -> None:
    there, crowd = boxes((0, 0, 10, 10), (100, 100, 200, 200)), np.array([False, True])
    found = boxes((0, 0, 10, 9), (0, 0, 10, 10), (110, 110, 120, 120), (130, 130, 140, 140), (300, 0, 310, 9))
    one = match(found, np.array([0.9, 0.8, 0.7, 0.6, 0.5]), there, crowd)
    assert one.right[0].tolist() == [True, False, False, False, False]  # overlap 0.5
    assert one.right[-1].tolist() == [False, True, False, False, False]  # 0.95: only the second is so near
    assert one.counts[0].tolist() == [True, True, False, False, True]
    assert one.there == 1


@pytest.mark.parametrize("seed", [1, 2])
def test_leaving_an_image_out_is_as_if_it_were_not_there(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def some(count: int) -> np.ndarray:
        start = rng.uniform(0, 5, (count, 2))
        return np.concatenate([start, start + rng.uniform(2, 4, (count, 2))], axis=1)

    images = [match(some(6), rng.uniform(size=6), some(3), rng.uniform(size=3) < 0.2) for _ in range(7)]
    chosen = rng.uniform(size=7) < 0.6
    kept = [one for one, used in zip(images, chosen, strict=True) if used]
    np.testing.assert_array_equal(Precision(images).of(chosen), Precision(kept).of(np.ones(len(kept), bool)))
