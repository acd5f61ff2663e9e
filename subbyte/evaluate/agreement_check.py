"""Whether two executions of a network agree: run before any of them is timed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict


class Check(BaseModel):
    """A contestant's outputs beside the expected ones, on the same pictures.

    correlation: Pearson's over each picture's outputs, the least of all outputs and pictures (1 is
    agreement up to scale and offset). top1: pictures with the same best element of the first output.
    equal: whether every number is the same.
    """

    model_config = ConfigDict(frozen=True)

    correlation: float
    top1: int
    pictures: int
    equal: bool


def check(actual: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> Check:
    """Compares lists of outputs, each [N, ...] in the same layout."""
    assert [a.shape for a in actual] == [e.shape for e in expected]
    pairs = list(zip(actual, expected, strict=True))
    best = [y.reshape(len(y), -1).argmax(axis=1) for y in pairs[0]]
    return Check(
        correlation=min(_correlation(a, e) for a, e in pairs),
        top1=int((best[0] == best[1]).sum()),
        pictures=len(expected[0]),
        equal=all(np.array_equal(a, e) for a, e in pairs),
    )


def _correlation(actual: np.ndarray, expected: np.ndarray) -> float:
    """The least over the pictures; 0 for what is constant or not finite, unless it is equal."""
    if np.array_equal(actual, expected):
        return 1.0
    a, e = (np.asarray(y, np.float64).reshape(len(y), -1) for y in (actual, expected))
    if not np.isfinite(a).all():
        return 0.0
    a, e = a - a.mean(axis=1, keepdims=True), e - e.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(a, axis=1) * np.linalg.norm(e, axis=1)
    return float(np.divide((a * e).sum(axis=1), norm, out=np.zeros(len(a)), where=norm > 0).min())
