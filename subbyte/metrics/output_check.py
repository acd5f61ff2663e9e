"""Whether two executions of a network agree: run before any of them is timed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

#: From this many numbers on, a common offset of all of them carries no information worth comparing.
CENTRED_FROM = 8


class Check(BaseModel):
    """A candidate's outputs beside the expected ones, on the same images.

    correlation: Pearson's over all output numbers of an image, each output scaled by its expected
    root mean square; the least of all images. 1 is agreement. With fewer than CENTRED_FROM numbers
    (a regression to a score or two) it is the cosine, which does not remove the mean.
    top1: images with the same best element of the first output. equal: whether every number is.
    """

    model_config = ConfigDict(frozen=True)

    correlation: float
    top1: int
    images: int = Field(validation_alias=AliasChoices("images", "pictures"))  # its name before
    equal: bool


def check(actual: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> Check:
    """Compares lists of outputs, each [N, ...] in the same layout."""
    assert [a.shape for a in actual] == [e.shape for e in expected]
    best = [y.reshape(len(y), -1).argmax(axis=1) for y in (actual[0], expected[0])]
    return Check(
        correlation=_correlation(actual, expected),
        top1=int((best[0] == best[1]).sum()),
        images=len(expected[0]),
        equal=all(np.array_equal(a, e) for a, e in zip(actual, expected, strict=True)),
    )


def _correlation(actual: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """0 where an output is not finite, or constant although the expected one is not."""
    sizes = [float(np.sqrt(np.square(e, dtype=np.float64).mean())) or 1.0 for e in expected]
    a, e = (
        np.concatenate([y.reshape(len(y), -1) / size for y, size in zip(outputs, sizes, strict=True)], axis=1)
        for outputs in (actual, expected)
    )
    if not np.isfinite(a).all():
        return 0.0
    if a.shape[1] >= CENTRED_FROM:
        a, e = a - a.mean(axis=1, keepdims=True), e - e.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(a, axis=1) * np.linalg.norm(e, axis=1)
    same = (a == e).all(axis=1).astype(np.float64)
    return float(np.divide((a * e).sum(axis=1), norm, out=same, where=norm > 0).min())
