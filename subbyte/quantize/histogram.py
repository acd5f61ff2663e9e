"""A histogram that grows with what it sees, in bounded memory."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

BINS = 8192
#: Elements of one tensor that are counted; its minimum and maximum are always exact.
SAMPLE = 1 << 17


class Histogram:
    """Counts of real numbers in BINS equal bins over [-limit, limit].

    `limit` is a power of two and doubles when a number falls outside, merging bins in pairs, so
    that the counts do not depend on the order of what is added. weights: sums by bin of what an error of
    these numbers matters, where `weigh` was told; else zeros.
    """

    def __init__(self) -> None:
        self.limit = 0.0
        self.low = math.inf
        self.high = -math.inf
        self.counts = np.zeros(BINS, np.int64)
        self.weights = np.zeros(BINS)

    def add(self, x: Tensor, generator: torch.Generator) -> None:
        """Counts x, finite float32 of any shape, or about SAMPLE of its elements."""
        low, high = (float(v) for v in torch.aminmax(x))
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._grow(max(abs(low), abs(high)))
        if self.limit > 0.0:
            sample = _flat(x)[_every(x.numel(), generator)]
            counts = torch.histc(sample, BINS, -self.limit, self.limit)
            self.counts += counts.to(torch.int64).numpy()

    def weigh(self, x: Tensor, gradient: Tensor, generator: torch.Generator) -> None:
        """Adds the squares of gradients, float32 of x's shape, to the bins of x, all of which `add` has seen,
        or of about SAMPLE of its elements."""
        if self.limit > 0.0:
            chosen = _every(x.numel(), generator)
            scaled = (_flat(x)[chosen] + self.limit).mul_(BINS / (2.0 * self.limit))
            index = scaled.to(torch.int64).clamp_(0, BINS - 1)
            squares = _flat(gradient)[chosen].double().square_()
            self.weights += torch.bincount(index, squares, minlength=BINS).numpy()

    def _grow(self, magnitude: float) -> None:
        if magnitude > self.limit == 0.0:
            self.limit = 2.0 ** math.ceil(math.log2(magnitude))
        while magnitude > self.limit:
            self.counts, self.weights = (
                np.pad(bins.reshape(-1, 2).sum(axis=1), BINS // 4) for bins in (self.counts, self.weights)
            )
            self.limit *= 2.0

    def merged(self, other: Histogram) -> Histogram:
        """The histogram of what both have seen."""
        result, wide, narrow = Histogram(), self, other
        if wide.limit < narrow.limit:
            wide, narrow = narrow, wide
        result.limit, result.low, result.high = narrow.limit, narrow.low, narrow.high
        result.counts, result.weights = narrow.counts.copy(), narrow.weights.copy()
        result._grow(wide.limit)
        result.low, result.high = min(wide.low, narrow.low), max(wide.high, narrow.high)
        result.counts, result.weights = result.counts + wide.counts, result.weights + wide.weights
        return result

    def points(self, *, weighted: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Centres of the bins that are not empty, float64, and their counts, or their weights."""
        sums = self.weights if weighted and self.weights.any() else self.counts
        filled = np.flatnonzero(sums)
        width = 2.0 * self.limit / BINS
        return (filled + 0.5) * width - self.limit, sums[filled]

    def quantile(self, share: float) -> float:
        """The number below which `share` (0 .. 1) of the counts lie, within what was seen."""
        centres, counts = self.points()
        if not len(centres):
            return 0.0
        position = np.searchsorted(np.cumsum(counts), share * counts.sum())
        value = centres[min(int(position), len(centres) - 1)]
        return float(np.clip(value, self.low, self.high))


def _flat(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).reshape(-1) if x.ndim == 4 else x.reshape(-1)


def _every(count: int, generator: torch.Generator) -> slice:
    """Every k-th of so many elements from a random start, k sharing no factor with their number."""
    step = max(1, count // SAMPLE)
    while math.gcd(step, count) > 1:
        step += 1
    return slice(int(torch.randint(step, (), generator=generator)), None, step)
