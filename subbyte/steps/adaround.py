"""Rounding down or up, learned: "Up or Down? Adaptive Rounding" (AdaRound, arXiv 2004.10568).

A weight may become one of two levels only, those on either side of the float weight. In
training it lies between them, at the share h of a rectified sigmoid; a regularizer, whose exponent falls
during training, drives every h to 0 or 1.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

#: The sigmoid is stretched to this range and cut off at 0 and 1 (section 3.3 of the paper).
LOWEST, HIGHEST = -0.1, 1.1


class Between:
    """The two levels that each of `steps` lies between.

    steps: float32, any shape, in units of levels; levels: int8, distinct, any order. What lies beyond the
    outermost level can become nothing else. start: the arguments of the sigmoids, float32, at which
    `soft` is `steps`.
    """

    def __init__(self, steps: Tensor, levels: np.ndarray) -> None:
        grid = torch.from_numpy(np.unique(levels).astype(np.float32)).to(steps.device)
        last = len(grid) - 1
        below = torch.searchsorted(grid, steps.contiguous(), right=True) - 1
        self.lower, upper = grid[below.clamp(0, last)], grid[(below + 1).clamp(0, last)]
        self.gap = upper - self.lower
        h = torch.where(self.gap > 0.0, (steps - self.lower) / self.gap.clamp(min=1.0), 0.0)
        self.start = torch.logit((h - LOWEST) / (HIGHEST - LOWEST))

    def soft(self, v: Tensor) -> Tensor:
        """Real numbers between the two levels; differentiable."""
        return self.lower + share(v) * self.gap

    def hard(self, v: Tensor) -> Tensor:
        """The level on the nearer side."""
        return torch.where(v >= 0.0, self.lower + self.gap, self.lower)


def share(v: Tensor) -> Tensor:
    """The rectified sigmoid: h in [0, 1], of which 0 and 1 are reached."""
    return (torch.sigmoid(v) * (HIGHEST - LOWEST) + LOWEST).clamp(0.0, 1.0)


def undecided(v: Tensor, beta: float) -> Tensor:
    """The mean of 1 - |2h - 1|^beta: 0 where every h is 0 or 1, 1 where every h is a half."""
    return 1.0 - (2.0 * share(v) - 1.0).abs().pow(beta).mean()


def exponent(done: float, after: float, beta: tuple[float, float]) -> float | None:
    """The regularizer's after this share of training: from beta[0] to beta[1] in a line, None before.

    The paper's rate is constant. Here it falls along a cosine, and time is counted by the
    sum of rates so far, lest the exponent arrive when nothing can move any more.
    """
    moved = done + math.sin(math.pi * done) / math.pi
    if moved < after:
        return None
    return beta[0] + (beta[1] - beta[0]) * min(1.0, (moved - after) / (1.0 - after))
