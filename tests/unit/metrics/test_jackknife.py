"""Pseudo-values: what they add up to, and that of a mean they are the values themselves."""

from __future__ import annotations

import numpy as np
import pytest

from subbyte.metrics.jackknife import GROUPS, pseudo_values
from subbyte.metrics.regions import mean_overlap, overlaps


@pytest.mark.parametrize("n", [2, 9, GROUPS])
def test_of_a_mean_they_are_the_values(n: int) -> None:
    values = np.random.default_rng(n).uniform(size=n)
    np.testing.assert_allclose(pseudo_values(lambda kept: float(values[kept].mean()), n), values, atol=1e-11)


@pytest.mark.parametrize("n", [1, 7, GROUPS + 3])
def test_their_mean_is_the_score(n: int) -> None:
    rng = np.random.default_rng(n)
    there, either = rng.integers(0, 5, n), rng.integers(5, 9, n)

    def ratio(kept: np.ndarray) -> float:
        return float(there[kept].sum() / either[kept].sum())

    assert pseudo_values(ratio, n).mean() == pytest.approx(ratio(np.ones(n, bool)), abs=1e-12)


def test_images_without_which_there_is_no_score_add_nothing() -> None:
    def score(kept: np.ndarray) -> float:
        return 0.5 if kept[0] else float("nan")

    assert pseudo_values(score, 3).tolist() == [0.5, 0.5, 0.5]


def test_overlap_of_regions_by_hand() -> None:
    """Class 0: 2 shared of 4; class 1: 1 of 3; class 2 occurs on neither side."""
    counts = overlaps(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 0]), 3)
    assert counts.tolist() == [[2, 1, 0], [4, 3, 0]]
    assert mean_overlap(counts) == pytest.approx((2 / 4 + 1 / 3) / 2)
    assert np.isnan(mean_overlap(np.zeros((2, 3), np.int64)))
