"""Intervals, the paired test and calibration error, against enumeration and hand-made cases."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from subbyte.data.samples import Sample
from subbyte.errors import InputError
from subbyte.metrics import statistics as st
from subbyte.metrics.accuracy import top_classes, wilson_interval


def test_wilson_interval_is_scipys() -> None:
    for k, n in ((0, 7), (1, 10), (984, 1150), (7, 7)):
        expected = stats.binomtest(k, n).proportion_ci(method="wilson")
        assert wilson_interval(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_exact_interval_is_scipys() -> None:
    for k, n in ((0, 7), (1, 10), (984, 1150), (7, 7)):
        expected = stats.binomtest(k, n).proportion_ci(0.9, method="exact")
        assert st.exact_interval(k, n, 0.9) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_exact_interval_solves_the_tail_equations() -> None:
    low, high = st.exact_interval(3, 40)
    assert stats.binom.sf(2, 40, low) == pytest.approx(0.025)
    assert stats.binom.cdf(3, 40, high) == pytest.approx(0.025)
    assert st.exact_interval(0, 40)[0] == 0
    assert st.exact_interval(40, 40)[1] == 1
    assert st.exact_interval(3, 40, 0.9)[1] < high


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (1, 0), (5, 1), (9, 9), (30, 12)])
def test_mcnemar_is_the_two_sided_binomial_tail(lost: int, gained: int) -> None:
    n = lost + gained
    tail = sum(math.comb(n, k) for k in range(min(lost, gained) + 1)) / 2**n
    assert st.Paired(100, lost, gained).p_value() == pytest.approx(min(1.0, 2 * tail))
    if n:
        assert st.Paired(100, lost, gained).p_value() == pytest.approx(stats.binomtest(lost, n).pvalue)
    assert st.Paired(100, gained, lost).p_value() == st.Paired(100, lost, gained).p_value()


@pytest.mark.parametrize(("loses", "gains"), [(0.02, 0.01), (0.10, 0.04), (0.3, 0.3)])
def test_paired_interval_covers_95_per_cent(loses: float, gains: float) -> None:
    """By simulation: 4000 draws, whose coverage has a standard error of 0.35 points; three of them
    below 95 % is what a right interval does not fall under, and far more is too wide."""
    rng = np.random.default_rng(0)
    draws = rng.multinomial(200, [loses, gains, 1 - loses - gains], 4000)
    ends = [st.Paired(200, int(b), int(c)).interval() for b, c, _ in draws]
    covered = np.mean([low <= gains - loses <= high for low, high in ends])
    assert 0.94 <= covered <= 0.98


def test_paired_counts() -> None:
    right, reference = np.array([1, 1, 0, 0, 1], bool), np.array([1, 0, 1, 1, 1], bool)
    counts = st.paired(right, reference)
    assert counts == st.Paired(5, lost=2, gained=1)
    assert counts.difference == pytest.approx(right.mean() - reference.mean())
    with pytest.raises(InputError, match="same images"):
        st.paired(right, reference[:4])


def test_calibration_error_of_hand_made_bins() -> None:
    """Two images in (14/15, 1], one right, mean 0.96; two in (7/15, 8/15], both right, mean 0.5."""
    confidence = np.array([0.94, 0.98, 0.49, 0.51], np.float32)
    right = np.array([True, False, True, True])
    assert st.calibration_error(confidence, right) == pytest.approx((abs(0.5 - 0.96) + 0.5) / 2, abs=1e-6)


def test_calibration_error_of_extremes() -> None:
    ones, none = np.ones(8), np.zeros(8)
    assert st.calibration_error(ones, ones.astype(bool)) == 0
    assert st.calibration_error(ones, none.astype(bool)) == 1
    edges = np.arange(1, 16) / 15  # each belongs to the bin that it ends
    assert st.calibration_error(edges, np.zeros(15, bool)) == pytest.approx(edges.mean())


def test_calibrated_answers_have_little_error() -> None:
    """For n images a perfectly calibrated network's error is about sqrt(2 p (1-p) bins / (pi n))."""
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.2, 1, 60_000)
    right = rng.random(60_000) < confidence
    assert st.calibration_error(confidence, right) < 2 * math.sqrt(2 * 0.25 * 15 / (math.pi * 60_000))
    assert st.calibration_error(confidence, rng.random(60_000) < confidence - 0.1) == pytest.approx(
        0.1, abs=0.01
    )


def test_mean_interval() -> None:
    values = np.array([0.0, 1.0, 1.0, 0.0])
    half = 1.959963984540054 * math.sqrt(1 / 3) / 2
    assert st.mean_interval(values, -9, 9) == pytest.approx((0.5 - half, 0.5 + half))
    assert st.mean_interval(values, 0, 1) == (0, 1)
    assert st.mean_interval(values[:1], -1, 1) == (-1, 1)


def test_correct_needs_the_same_images() -> None:
    predictions = top_classes(np.array([[1, 0], [0, 1]], np.float32))
    samples = [Sample(Path("a"), 0), Sample(Path("b"), 0)]
    assert st.correct(predictions, samples).tolist() == [True, False]
    with pytest.raises(InputError, match="same images"):
        st.correct(predictions, samples[:1])


def test_random_effects_by_hand() -> None:
    """Two effects 0 and 6 with variances 1 and 2: weights 1 and 1/2, their mean 2, Q = 4 + 16/2 = 12,
    tau^2 = (12 - 1) / (3/2 - (5/4) / (3/2)) = 33/2. Weights 2/35 and 2/37 then: mean 6 * 35 / 72,
    variance 1 / (2/35 + 2/37) = 1295/144."""
    found = st.random_effects([0, 6], [1, 2])
    assert found.deviation == pytest.approx(math.sqrt(33 / 2), rel=1e-12)
    assert found.mean == pytest.approx(6 * 35 / 72, rel=1e-12)
    assert found.error == pytest.approx(math.sqrt(1295 / 144), rel=1e-12)
    half = 1.959963984540054 * found.error
    assert found.interval() == pytest.approx((found.mean - half, found.mean + half), rel=1e-12)


def test_sets_that_differ_by_chance_only_are_pooled() -> None:
    """Q = 1/2 is less than its expectation 2: the mean is that of inverse variances."""
    found = st.random_effects([1, 1, 2], [1, 1, 4 / 3])
    assert found.deviation == 0
    assert found.mean == pytest.approx((1 + 1 + 2 * 3 / 4) / (11 / 4), rel=1e-12)
    assert found.error == pytest.approx(math.sqrt(4 / 11), rel=1e-12)


def test_variance_of_a_difference_is_never_zero() -> None:
    assert st.Paired(98, 0, 0).variance == pytest.approx(2 / 100 / 100)
    pair = st.Paired(98, 4, 9)
    low, high = pair.interval()
    assert high - low == pytest.approx(2 * 1.959963984540054 * math.sqrt(pair.variance))


def test_means_of_counts_are_compared_as_counts() -> None:
    """Of gains of -1, 0 and 1, difference, variance and interval are those of the paired counts."""
    gain = np.array([1.0] * 5 + [-1.0] * 9 + [0.0] * 36)
    means, counts = st.paired_means(gain), st.Paired(50, 9, 5)
    assert means.difference == counts.difference
    assert means.variance == pytest.approx(counts.variance, rel=1e-12)
    assert means.interval() == pytest.approx(counts.interval(), rel=1e-12)
    # z = -4 / sqrt(14)
    assert means.p_value() == pytest.approx(2 * (1 - 0.5 * (1 + math.erf(4 / math.sqrt(28)))), rel=1e-9)
    assert st.paired_means(np.zeros(3)).p_value() == 1.0
    low, high = st.paired_means(np.zeros(3)).interval()
    assert low < 0 < high
