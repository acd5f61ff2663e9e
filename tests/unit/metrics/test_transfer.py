"""From easier images to a harder set: hand-made cases, and coverage by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from subbyte.errors import InputError
from subbyte.metrics import transfer as tr
from subbyte.metrics.accuracy import Predictions
from subbyte.metrics.statistics import exact_interval


def population(n: int, seed: int, tilt: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """margin, was right, is right. Margins have the density 2 m exp(-tilt m), scaled: a larger tilt is a
    harder set. The reference is right with probability 0.4 + 0.6 m; of that the artifact loses 0.3 (1 - m)^2,
    of the rest it gains 0.1 (1 - m)."""
    rng = np.random.default_rng(seed)
    many = np.sqrt(rng.random(int(3 * n * np.exp(tilt))))
    margin = many[rng.random(len(many)) < np.exp(-tilt * many)][:n]
    assert len(margin) == n
    was = rng.random(n) < 0.4 + 0.6 * margin
    lost = rng.random(n) < 0.3 * (1 - margin) ** 2
    gained = rng.random(n) < 0.1 * (1 - margin)
    return margin, was, np.where(was, ~lost, gained)


def answers(margin: np.ndarray, right: np.ndarray) -> Predictions:
    """Predictions over labels 0 with that margin between the two best probabilities."""
    top = np.where(right[:, None], [[0, 1]], [[1, 0]])
    high = (0.9 + margin) / 2
    return Predictions(top, np.stack([high, high - margin], axis=1).astype(np.float32))


def transferred(margin: np.ndarray, was: np.ndarray, now: np.ndarray, accuracy: float) -> tr.Transfer:
    labels = np.zeros(len(margin), int)
    return tr.transfer(answers(margin, now), answers(margin, was), labels, accuracy)


def test_estimate_and_bounds_hold_on_a_harder_set() -> None:
    """60 draws of 1000 easy images. The mean of their estimates is the truth within three standard errors;
    95 % of the intervals hold it, of 60 at least 52 but for one chance in 350; the worst case is above it
    in 5 % at most, of 60 in no more than 8 but for one chance in 350."""
    _, was, now = population(300_000, 99, tilt=2.5)
    accuracy, truth = float(was.mean()), float(now.mean())
    assert population(100_000, 1)[1].mean() > accuracy + 0.08
    results = [transferred(*population(1000, seed), accuracy) for seed in range(60)]
    estimates = np.array([r.estimate for r in results])
    assert abs(estimates.mean() - truth) < 3 * estimates.std() / np.sqrt(60)
    assert sum(r.interval[0] <= truth <= r.interval[1] for r in results) >= 52
    assert sum(r.worst_case > truth for r in results) <= 8


def test_without_losses_nothing_is_lost() -> None:
    margin, was, _ = population(1000, 3)
    result = transferred(margin, was, was, 0.7)
    assert result.estimate == pytest.approx(0.7)
    assert result.counts.lost == result.counts.gained == 0
    worst_share = 1 - 0.05 / 4 / 5  # 0 of 200 in each stratum: the upper end is 1 - alpha^(1/200)
    assert result.worst_case == pytest.approx(0.7 - (1 - (1 - worst_share) ** (1 / 200)), abs=1e-9)


def test_weights_tilt_towards_small_margins() -> None:
    margin, was, _ = population(2000, 4)
    weights = tr.tilted(margin, was, 0.7)
    assert weights.sum() == pytest.approx(1)
    assert weights @ was == pytest.approx(0.7, abs=1e-9)
    order = np.argsort(margin)
    assert (np.diff(weights[order]) <= 0).all()
    np.testing.assert_allclose(tr.tilted(margin, was, float(was.mean())), 1 / 2000, rtol=1e-6)


def test_strata_count_everything_once() -> None:
    margin, was, now = population(103, 5)
    strata = tr.stratify(margin, was, now, 5)
    assert [s.n for s in strata] == [21, 21, 21, 20, 20]
    assert [s.low for s in strata] == sorted(s.low for s in strata)
    assert sum(s.right for s in strata) == was.sum()
    assert sum(s.lost for s in strata) == (was & ~now).sum()
    assert sum(s.gained for s in strata) == (now & ~was).sum()


def test_worst_case_mixes_the_worst_stratum_with_the_best() -> None:
    """One stratum always wrong but for what is lost, one always right: to give the reference 0.8, the first
    can have at most the share that its interval allows."""
    sure = tr.Stratum(0.9, 10_000, 10_000, 0, 0)
    unsure = tr.Stratum(0.1, 10_000, 5_000, 2_000, 0)
    each = 1 - 2 * 0.05 / 8
    low, high = exact_interval(5_000, 10_000, each)
    least, most = exact_interval(10_000, 10_000, each)
    lost, none = exact_interval(2_000, 10_000, each)[1], exact_interval(0, 10_000, each)[1]
    share = (most - 0.8) / (most - high)  # of the unsure one, were it as right as it may be
    assert tr.worst_case([unsure, sure], 0.8) == pytest.approx(0.8 - share * lost - (1 - share) * none)
    assert (least, low) < (most, high)


def test_factor_to_a_floor() -> None:
    margin, was, now = population(1000, 6)
    result = transferred(margin, was, now, 0.784)
    upper = exact_interval(result.counts.lost, int(was.sum()), 0.9)[1]
    assert 0.784 * (1 - result.factor_to(0.7) * upper) == pytest.approx(0.7)
    assert result.to_json(0.7)["factor"] == result.factor_to(0.7)
    assert "factor" not in result.to_json()


def test_refuses() -> None:
    margin, was, now = population(300, 7)
    with pytest.raises(InputError, match="cannot be reweighted"):
        transferred(margin, was, now, 0.05)
    one = Predictions(np.zeros((3, 1), int), np.ones((3, 1), np.float32))
    with pytest.raises(InputError, match="two classes"):
        tr.transfer(one, one, np.zeros(3, int), 0.7)
