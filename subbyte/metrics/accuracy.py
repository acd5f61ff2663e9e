"""Accuracy of a classifier on labelled images, as counts, and agreement between two classifiers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from subbyte.data.samples import Sample
from subbyte.errors import InputError

#: float32 [N, H, W, C] to float32 logits [N, classes]
Predictor = Callable[[np.ndarray], np.ndarray]
Z95 = 1.959963984540054  # the 97.5 % quantile of the normal distribution


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a classifier said about n images.

    top: int64 [n, k], the k <= 5 best classes, best first; ties go to the lower class index.
    probability: float32 [n, k], their softmax probabilities.
    """

    top: np.ndarray
    probability: np.ndarray


@dataclass(frozen=True)
class Accuracy:
    """Counts over n labelled images, a `Score`. `top5` counts the label among the five best classes."""

    title: ClassVar[str] = "top-1 accuracy"

    n: int
    top1: int
    top5: int

    @property
    def rate(self) -> float:
        """`top1_rate`."""
        return self.top1_rate

    @property
    def count(self) -> int:
        """`top1`."""
        return self.top1

    @property
    def top1_rate(self) -> float:
        """Share of images whose best class is the label, 0..1."""
        return self.top1 / self.n

    @property
    def top5_rate(self) -> float:
        """Share of images whose label is among the five best classes, 0..1."""
        return self.top5 / self.n

    def interval(self) -> tuple[float, float]:
        """95 % Wilson score interval of `top1_rate`."""
        return wilson_interval(self.top1, self.n)

    def to_json(self) -> dict[str, Any]:
        """What a row of `subbyte report --json` holds of it."""
        return {"top1": self.top1, "top5": self.top5}


def wilson_interval(successes: float, n: int, z: float = Z95) -> tuple[float, float]:
    """Score interval of a binomial proportion (Wilson 1927, JASA 22:209). n >= 1.

    Of the sum of n numbers in 0..1 it is conservative: none with that mean vary more than zeros and ones.
    """
    rate, z2 = successes / n, z * z
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = z * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return low, high


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of float32 logits [N, classes], float64.

    Raises InputError if the logits are not [N, classes] or not finite.
    """
    if logits.ndim != 2 or logits.shape[1] < 1:
        raise InputError(
            f"the network's output is {list(logits.shape)}, not [N, classes]: it is no classifier"
        )
    if not np.isfinite(logits).all():
        raise InputError("the network's output holds NaN or infinity")
    shifted = np.exp((logits - logits.max(axis=1, keepdims=True)).astype(np.float64))
    return shifted / shifted.sum(axis=1, keepdims=True)


def top_classes(logits: np.ndarray, k: int = 5) -> Predictions:
    """The k best classes of float32 logits [N, classes]. Raises InputError as `probabilities` does."""
    softmax = probabilities(logits)
    top = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return Predictions(top, np.take_along_axis(softmax, top, axis=1).astype(np.float32))


def joined(parts: Sequence[Predictions]) -> Predictions:
    """The answers of one classifier on one part after the other."""
    top = np.concatenate([part.top for part in parts])
    return Predictions(top, np.concatenate([part.probability for part in parts]))


def score(predictions: Predictions, samples: Sequence[Sample]) -> Accuracy:
    """Top-1 and top-5 counts. Raises InputError if a sample has no label or the numbers differ."""
    if len(samples) != len(predictions.top) or any(sample.label is None for sample in samples):
        raise InputError("accuracy needs one labelled image per prediction")
    hits = predictions.top == np.array([sample.label for sample in samples])[:, None]
    return Accuracy(len(samples), int(hits[:, 0].sum()), int(hits.any(axis=1).sum()))


def agreement(a: Predictions, b: Predictions) -> int:
    """On how many images two classifiers have the same best class.

    Raises InputError if the images differ in number.
    """
    if len(a.top) != len(b.top):
        raise InputError("agreement needs predictions on the same images")
    return int((a.top[:, 0] == b.top[:, 0]).sum())
