"""From easier images to a harder set: what an artifact keeps there of its reference's known accuracy.

Right on the harder set is what the reference is right on there, a known share A, minus what the artifact
loses of it, plus what it gains. Both happen where the reference is unsure, so images are grouped by
the reference's margin (probability of its best class minus that of the second), and each group counts with
the share it may have on the harder set. docs/accuracy-bound.md says what that assumes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subbyte.errors import InputError
from subbyte.metrics.accuracy import Z95, Predictions
from subbyte.metrics.statistics import Paired, exact_interval, paired

STRATA = 5
CONFIDENCE = 0.95
TILTS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


@dataclass(frozen=True)
class Stratum:
    """Images whose margin is at least `low`: n, `right` by the reference, of these `lost` by the artifact,
    and `gained` by it beside them."""

    low: float
    n: int
    right: int
    lost: int
    gained: int


@dataclass(frozen=True)
class Transfer:
    """Top-1 of the artifact on a set where the reference has `accuracy`, shares 0..1.

    estimate: with the images reweighted to that set; interval: 95 %, for these weights.
    worst_case: below it only with a probability of at most 5 %, however the margins are distributed there.
    strata: the counts that this comes from. counts: over all of them.
    """

    accuracy: float
    estimate: float
    interval: tuple[float, float]
    worst_case: float
    strata: tuple[Stratum, ...]
    counts: Paired

    def factor_to(self, floor: float) -> float:
        """How many times as often as here the artifact may lose what the reference has right before it
        falls to `floor`, with nothing gained, and losses here at the end of their 95 % interval."""
        right = sum(stratum.right for stratum in self.strata)
        return (self.accuracy - floor) / (self.accuracy * exact_interval(self.counts.lost, right, 0.9)[1])

    def to_json(self, floor: float | None = None) -> dict[str, Any]:
        """JSON values, shares 0..1; with a `floor` also the factor that leads to it."""
        result = {
            "reference_accuracy": self.accuracy,
            "estimate": self.estimate,
            "estimate_interval_95": list(self.interval),
            "worst_case_95": self.worst_case,
            "strata": [vars(stratum) for stratum in self.strata],
        }
        return result if floor is None else result | {"floor": floor, "factor": self.factor_to(floor)}


def transfer(
    predictions: Predictions,
    reference: Predictions,
    labels: np.ndarray,
    accuracy: float,
    strata: int = STRATA,
) -> Transfer:
    """predictions, reference: on the same n images with labels int [n]. accuracy: the reference's on the
    harder set, 0..1.

    Raises InputError: one class only, or an accuracy that no reweighting of these images gives.
    """
    if reference.top.shape[1] < 2:
        raise InputError("a margin needs a network with two classes or more")
    margin = (reference.probability[:, 0] - reference.probability[:, 1]).astype(np.float64)
    was, now = reference.top[:, 0] == labels, predictions.top[:, 0] == labels
    groups = stratify(margin, was, now, strata)
    weights = tilted(margin, was, accuracy)
    change = now.astype(float) - was
    mean = float(weights @ change)
    half = Z95 * float(np.sqrt(weights**2 @ (change - mean) ** 2))
    return Transfer(
        accuracy,
        accuracy + mean,
        (accuracy + mean - half, accuracy + mean + half),
        worst_case(groups, accuracy),
        groups,
        paired(now, was),
    )


def stratify(margin: np.ndarray, was: np.ndarray, now: np.ndarray, count: int) -> tuple[Stratum, ...]:
    """Groups of equal size by margin, smallest first. margin: float [n]; was, now: bool [n], whether the
    reference and the artifact are right."""
    parts = np.array_split(np.argsort(margin, kind="stable"), count)
    return tuple(
        Stratum(
            float(margin[part[0]]),
            len(part),
            int(was[part].sum()),
            int((was & ~now)[part].sum()),
            int((now & ~was)[part].sum()),
        )
        for part in parts
        if len(part)
    )


def tilted(margin: np.ndarray, was: np.ndarray, accuracy: float) -> np.ndarray:
    """Weights float [n] with sum 1, proportional to exp(-t margin), under which the reference's accuracy
    is `accuracy`: of all such weights the nearest to equal ones in Kullback-Leibler divergence that depend
    on the margin in this way. Raises InputError if no t from -32 to 32 gives it."""
    from scipy.optimize import brentq

    def weights(t: float) -> np.ndarray:
        w = np.exp(-t * (margin - (margin.min() if t > 0 else margin.max())))
        return w / w.sum()

    def excess(t: float) -> float:
        return float(weights(t) @ was) - accuracy

    start = excess(0.0)
    for size in TILTS:  # the least tilt that goes far enough; a far larger one rests on single images
        end = size if start > 0 else -size
        if start * excess(end) <= 0:
            return weights(float(brentq(excess, 0.0, end)))
    raise InputError(
        f"these images cannot be reweighted to a reference accuracy of {accuracy:.4f}: "
        f"it is {was.mean():.4f} here"
    )


def worst_case(strata: Sequence[Stratum], accuracy: float, confidence: float = CONFIDENCE) -> float:
    """The least top-1 over all shares of the strata that give the reference `accuracy`.

    Losses count with the upper ends of Clopper and Pearson's intervals, gains with the lower ones; the
    reference's accuracy in a stratum may be anywhere in its own interval. These 4 ends of every stratum
    hold together with probability `confidence` (Bonferroni). A linear program in the shares.

    Raises InputError if no shares give that accuracy.
    """
    from scipy.optimize import linprog

    each = 1 - 2 * (1 - confidence) / (4 * len(strata))
    lost = np.array([exact_interval(s.lost, s.n, each)[1] for s in strata])
    low, high = np.array([exact_interval(s.right, s.n, each) for s in strata]).T
    gained = np.array([exact_interval(s.gained, s.n, each)[0] for s in strata])
    program = linprog(
        gained - lost,
        A_ub=np.stack([low, -high]),
        b_ub=[accuracy, -accuracy],
        A_eq=np.ones((1, len(strata))),
        b_eq=[1],
        bounds=(0, 1),
    )
    if program.status != 0:
        raise InputError(f"no mixture of these images gives a reference accuracy of {accuracy:.4f}")
    return accuracy + float(program.fun)
