"""What counts on a few hundred images are worth: intervals, a paired test, calibration error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from subbyte.data.samples import Sample
from subbyte.errors import InputError
from subbyte.metrics.accuracy import Z95, Predictions

BINS = 15


def exact_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval of a binomial proportion; its coverage is never less. n >= 1."""
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1 - tail))
    return low, high


def mean_interval(values: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """95 % normal interval of the mean of float [n] values, one per image, each from `low` to `high`;
    all of that if n is 1."""
    if len(values) < 2:
        return low, high
    half = Z95 * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return max(low, float(values.mean()) - half), min(high, float(values.mean()) + half)


def correct(predictions: Predictions, samples: Sequence[Sample]) -> np.ndarray:
    """bool [n]: where the best class is the label. InputError if the numbers of images differ."""
    if len(samples) != len(predictions.top):
        raise InputError("predictions and labels must be of the same images")
    return predictions.top[:, 0] == np.array([sample.label for sample in samples])


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv:1706.04599, equation 3), 0..1.

    confidence: float [n], the probability given to the best class. right: bool [n]. The mean over
    `bins` bins of equal width, weighted by their images, of |share that is right - mean confidence|.
    """
    confidence = np.asarray(confidence, np.float64)
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)  # bins ((m-1)/M, m/M]
    gap = np.bincount(index, right, bins) - np.bincount(index, confidence, bins)
    return float(np.abs(gap).sum() / len(confidence))


class Comparison(Protocol):
    """What a network gains per image over another on the same n images: mean, its variance, and a test.

    n: images. difference: the mean gain. variance: of `difference`. interval: of 95 %. p_value: two-sided, of
    no difference. to_json: all of that as JSON values.
    """

    @property
    def n(self) -> int: ...

    @property
    def difference(self) -> float: ...

    @property
    def variance(self) -> float: ...

    def interval(self) -> tuple[float, float]: ...

    def p_value(self) -> float: ...

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class PairedMeans:
    """A gain on each of n images: their `total` and the sum of their `squares`.

    Interval and variance are those of `Paired`, whose gains are -1, 0 and 1: with one more image that gains 1
    and one that loses 1.
    """

    n: int
    total: float
    squares: float

    @property
    def difference(self) -> float:
        """The mean gain."""
        return self.total / self.n

    @property
    def variance(self) -> float:
        """That of `difference`, as `interval` estimates it."""
        n = self.n + 2
        return ((self.squares + 2) / n - (self.total / n) ** 2) / n

    def interval(self) -> tuple[float, float]:
        """95 % interval of `difference`."""
        centre, half = self.total / (self.n + 2), Z95 * math.sqrt(self.variance)
        return centre - half, centre + half

    def p_value(self) -> float:
        """Two-sided, of the normal test that the mean gain is 0, with the variance that it then has; 1 if
        nothing is gained or lost."""
        return math.erfc(abs(self.total) / math.sqrt(2 * self.squares)) if self.squares else 1.0

    def to_json(self) -> dict[str, Any]:
        """As JSON values, the interval of 95 % included."""
        return {
            "difference": self.difference,
            "difference_interval_95": list(self.interval()),
            "p": self.p_value(),
        }


def paired_means(gain: np.ndarray) -> PairedMeans:
    """Of float [n], what each image gains."""
    return PairedMeans(len(gain), float(gain.sum()), float(np.square(gain).sum()))


@dataclass(frozen=True)
class Paired:
    """Two classifiers on the same n images: of `lost` only the reference is right, of `gained` only the
    other."""

    n: int
    lost: int
    gained: int

    @property
    def difference(self) -> float:
        """The other's top-1 share minus the reference's, -1..1."""
        return (self.gained - self.lost) / self.n

    def p_value(self) -> float:
        """McNemar's exact test, two-sided: how probable counts at least as unequal would be, if both
        were right equally often. 1 if there is no image that only one has right."""
        n = self.lost + self.gained
        count, tail = 1, 0  # of the 2**n outcomes, those with k ones
        for k in range(min(self.lost, self.gained) + 1):
            tail += count
            count = count * (n - k) // (k + 1)
        return min(1.0, 2 * tail / 2**n)  # Python divides whole numbers of any size correctly

    def interval(self) -> tuple[float, float]:
        """95 % interval of `difference`: Wald's with one image added to `lost` and to `gained`
        (Bonett and Price 2012, J. Educational and Behavioral Statistics 37:479)."""
        centre = (self.gained - self.lost) / (self.n + 2)
        half = Z95 * math.sqrt(self.variance)
        return max(-1.0, centre - half), min(1.0, centre + half)

    @property
    def variance(self) -> float:
        """That of `difference`, as `interval` estimates it; more than 0 even if nothing is lost or gained."""
        n = self.n + 2
        lost, gained = (self.lost + 1) / n, (self.gained + 1) / n
        return (lost + gained - (gained - lost) ** 2) / n

    def to_json(self) -> dict[str, Any]:
        """As JSON values, the interval of 95 % included."""
        return {
            "lost": self.lost,
            "gained": self.gained,
            "difference": self.difference,
            "difference_interval_95": list(self.interval()),
            "mcnemar_p": self.p_value(),
        }


def paired(right: np.ndarray, reference: np.ndarray) -> Paired:
    """Counts of bool [n] against bool [n], both on the same images. InputError if the lengths differ."""
    if len(right) != len(reference):
        raise InputError("a paired comparison needs the same images")
    return Paired(len(right), int((reference & ~right).sum()), int((right & ~reference).sum()))


@dataclass(frozen=True)
class RandomEffects:
    """What several sets say together if each has an effect of its own, drawn around a common mean.

    mean: of the effects. deviation: their standard deviation between sets, beside what chance within the
    sets explains. error: the standard error of `mean`. All in the unit of the effects.
    """

    mean: float
    deviation: float
    error: float

    def interval(self) -> tuple[float, float]:
        """95 % normal interval of `mean`. With few sets `deviation` is a guess, and this holds less often."""
        return self.mean - Z95 * self.error, self.mean + Z95 * self.error


def random_effects(effects: Sequence[float], variances: Sequence[float]) -> RandomEffects:
    """DerSimonian and Laird's estimate (1986, Controlled Clinical Trials 7:177) from two sets or more.

    effects: one number per set. variances: of each, within its set, more than 0.
    """
    y, weight = np.asarray(effects, np.float64), 1 / np.asarray(variances, np.float64)
    fixed = float(weight @ y / weight.sum())
    excess = float(weight @ (y - fixed) ** 2) - (len(y) - 1)  # of Cochran's Q over what chance gives
    scale = float(weight.sum() - (weight**2).sum() / weight.sum())
    between = max(0.0, excess / scale)
    weight = 1 / (1 / weight + between)
    return RandomEffects(
        float(weight @ y / weight.sum()), math.sqrt(between), 1 / math.sqrt(float(weight.sum()))
    )
