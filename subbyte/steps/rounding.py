"""How latent weights become codes in training: estimators, widths in between, noise, oscillations.

All of it changes what a step of training computes, and none of it the format of what comes out: at the end
every weight is on a level of its code book.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from subbyte.execute.torch.estimators import STE, Estimator, estimator
from subbyte.quantize.weights import nearest_level, usable
from subbyte.recipes import Distillation

#: What a step counts in the running means of oscillations (arXiv 2203.11086).
MOMENTUM = 0.01


class Rounding:
    """Latent weights to levels, layer by layer, as `asked`.

    finer: layer to the number of parts that each step between levels is divided into at present, if more
    than one. buffers: by kind and layer, what is remembered of weights that change to and fro.
    step: of training, from 1.
    """

    def __init__(self, asked: Distillation) -> None:
        self.asked = asked
        self.how = estimator(asked.estimator, asked.strength)
        self.finer: dict[str, int] = {}
        self.step = 1
        self.buffers: dict[str, dict[str, Tensor]] = {}
        self.damping: list[Tensor] = []
        self.kurtosis: list[Tensor] = []

    def __call__(
        self, name: str, steps: Tensor, levels: np.ndarray, generator: torch.Generator | None = None
    ) -> Tensor:
        """The weights `steps`, float32, in steps of their scales, of the layer `name`, as levels (int8).

        generator: of what is random in training; without it nothing is.
        """
        fine = self.finer.get(name, 1)
        values = nearest(steps, levels, self.how, fine)
        if self.asked.freeze and fine == 1:
            values = self._frozen(name, values)
            if generator is not None:
                self._observe(name, values.detach(), levels)
        if self.asked.damping:
            self.damping.append(_distance(steps, values, levels))
        if self.asked.kurtosis:
            self.kurtosis.append(kurtosis(steps))
        if self.asked.unrounded and generator is not None:
            chosen = torch.rand(steps.shape, generator=generator).to(steps.device) < self.asked.unrounded
            values = torch.where(chosen, steps.clamp(*_ends(levels)), values)
        return values

    def watch(self, layers: Mapping[str, Tensor]) -> None:
        """Makes room for what is remembered of these layers, whose weights have those shapes."""
        if not self.asked.freeze:
            return
        kinds = {"code": torch.float32, "mean": torch.float32, "rate": torch.float32}
        kinds |= {"seen": torch.int32, "way": torch.int8, "frozen": torch.bool}
        self.buffers = {
            kind: {
                name: torch.zeros(layer.shape, dtype=dtype, device=layer.device)
                for name, layer in layers.items()
            }
            for kind, dtype in kinds.items()
        }

    def _observe(self, name: str, values: Tensor, levels: np.ndarray) -> None:
        """Remembers the levels of a layer's weights in this step, and freezes what oscillates.

        A code that changes in the direction opposite to its last change oscillates. Running means of
        how often, and of the code, are worked out only where a code changes.
        """
        of = {kind: named[name].view(-1) for kind, named in self.buffers.items()}
        now, step = values.reshape(-1), self.step
        if int(of["seen"][0]) == 0:
            of["code"].copy_(now)
            of["mean"].copy_(now)
            of["seen"].fill_(step)
            return
        (where,) = torch.nonzero(now != of["code"], as_tuple=True)
        if len(where) == 0:
            return
        last, new = of["code"][where], now[where]
        kept = (1.0 - MOMENTUM) ** (step - of["seen"][where]).float()
        # the mean fell towards the last code up to the step before this one
        mean = last + (of["mean"][where] - last) * (kept / (1.0 - MOMENTUM))
        way = torch.sign(new - last).to(torch.int8)
        rate = of["rate"][where] * kept + MOMENTUM * (way * of["way"][where] < 0)
        mean = mean + MOMENTUM * (new - mean)
        frozen = rate > self.asked.freeze
        of["code"][where] = torch.where(frozen, nearest_level(mean, usable(levels)), new)
        of["mean"][where], of["rate"][where], of["way"][where] = mean, rate, way
        of["seen"][where] = step
        of["frozen"][where] = frozen

    def _frozen(self, name: str, values: Tensor) -> Tensor:
        frozen = self.buffers["frozen"][name]
        if not bool(frozen.any()):
            return values
        return torch.where(frozen.clone(), self.buffers["code"][name], values)

    def penalty(self, progress: float) -> Tensor | float:
        """What weights add to the loss, `progress` of the way, 0 to 1; forgets the layers' parts."""
        total: Tensor | float = 0.0
        if self.damping:
            rising = 0.5 * (1.0 - float(np.cos(np.pi * progress)))
            total = total + self.asked.damping * rising * torch.stack(self.damping).mean()
        if self.kurtosis:
            total = total + self.asked.kurtosis * (torch.stack(self.kurtosis) - 1.8).square().mean()
        self.damping, self.kurtosis = [], []
        return total


class _Nearest(torch.autograd.Function):
    """The nearest level, gradients as `how` says; none beyond half a step outside the levels."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, levels: np.ndarray, how: Estimator, fine: int) -> Tensor:
        ctx.how = how
        grid = torch.from_numpy(divided(levels, fine))
        first, last = (grid[1] - grid[0]) / 2, (grid[-1] - grid[-2]) / 2
        inside = (v >= grid[0] - first).logical_and_(v <= grid[-1] + last)
        values = _nearest(v, levels, fine)
        ctx.save_for_backward(inside, None if how.plain else errors(v, grid))
        return values

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        inside, error = ctx.saved_tensors
        g = grads[0] if error is None else ctx.how.gradient(grads[0], error)
        return g * inside, None, None, None


def nearest(v: Tensor, levels: np.ndarray, how: Estimator = STE, fine: int = 1) -> Tensor:
    """Each number of v replaced by the nearest of `levels` (int8, any order).

    fine: how many equal parts the steps between levels are divided into.
    """
    return _Nearest.apply(v, usable(levels), how, fine)  # type: ignore[no-any-return, no-untyped-call]


def divided(levels: np.ndarray, fine: int) -> np.ndarray:
    """The levels in order, and between each two of them `fine` − 1 more, float32."""
    grid = np.unique(levels).astype(np.float64)
    positions = np.arange((len(grid) - 1) * fine + 1) / fine
    return np.interp(positions, np.arange(len(grid)), grid).astype(np.float32)


def errors(v: Tensor, grid: Tensor) -> Tensor:
    """v less the nearest number of `grid`, which ascends, in units of the gap it lies in, −0.5 .. 0.5."""
    grid = grid.to(v.device)
    gap = (torch.bucketize(v, grid) - 1).clamp_(0, len(grid) - 2)
    low, high = grid[gap], grid[gap + 1]
    part = (v - low) / (high - low)
    return torch.where(part > 0.5, part - 1.0, part).clamp_(-0.5, 0.5)


def kurtosis(w: Tensor) -> Tensor:
    """E(w − μ)⁴ / σ⁴ of all numbers, 0-dim: 1.8 for a uniform distribution, 3 for a normal one."""
    squares = (w - w.mean()).square()
    return squares.square().mean() / (squares.mean().square() + 1e-12)


def _nearest(v: Tensor, levels: np.ndarray, fine: int) -> Tensor:
    grid = np.unique(levels)
    if fine == 1:
        return nearest_level(v, levels)
    if len(grid) == int(grid[-1]) - int(grid[0]) + 1:
        return nearest_level(v * fine, np.arange(int(grid[0]) * fine, int(grid[-1]) * fine + 1)).div_(fine)
    return nearest_level(v, divided(levels, fine))


def _ends(levels: np.ndarray) -> tuple[float, float]:
    found = usable(levels)
    return float(found.min()), float(found.max())


def _distance(steps: Tensor, values: Tensor, levels: np.ndarray) -> Tensor:
    """Mean square of what rounding moves, 0-dim; what the ends clip does not count."""
    return (steps.clamp(*_ends(levels)) - values.detach()).square().mean()
