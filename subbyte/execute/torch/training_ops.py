"""Layers for training: what their rows' `run` computes but for float32 rounding, in fewer passes.

The multiplier to the target's grid is folded into the weights, zero points into the bias, and an
activation's gradient is looked up by the byte that its table was looked up with. Most of the time
of training goes into passes over memory, and this is half of them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from subbyte.execute.torch.step import Grid, Step, bounds, products, slopes
from subbyte.execute.torch.straight_through import by_entry, round_clamp, take


def layer(step: Step, arrays: list[Tensor]) -> Tensor:
    """A quantized conv2d or linear: codes, or reals where the output is real."""
    x = step.grid(0)
    real = x.scale * step.param("weight_scale")
    if step.output.q is None:
        return _sums(step, arrays[0], x, real, 0.0)
    table = "table" in step.node.params
    target = step.pre if table else step.target
    v = _sums(step, arrays[0], x, real / target.scale, target.zero)
    if table:
        y = step.target
        gradients = slopes(step.node.attrs["act"], target, y)
        return _RoundSample.apply(v, y.scale, step.param("table"), gradients[0], gradients[2])  # type: ignore[no-any-return, no-untyped-call]
    if len(arrays) == 2:
        r = step.grid(1)
        v = v + (arrays[1] - r.zero) * (r.scale / target.scale)
    low, high = bounds(step.node.attrs["act"], target)
    return round_clamp(v, 0.0, low, target.qmax if high is None else high.detach())


def _sums(step: Step, codes: Tensor, x: Grid, multiplier: Tensor, shift: float) -> Tensor:
    """(Σ (codes − z)·w + B) · multiplier + shift."""
    node = step.node
    weight = step.param("weight")
    weight = weight * multiplier.view(-1, *([1] * (weight.ndim - 1)))
    bias = step.param("bias").float() * multiplier + shift
    if not any(node.attrs.get("pad", ())):
        bias = bias - x.zero * weight.flatten(1).sum(1)
    else:
        codes = codes - x.zero
    return products(node, codes, weight, bias)


class _RoundSample(torch.autograd.Function):
    """table[clamp(rne(v), 0, 255)]; slope and by_scale, float32 [256]: its derivatives by v and scale.

    An entry of the table has the sum of the gradients of the elements that it made: how code books are
    learned under fixed assignments.
    """

    @staticmethod
    def forward(ctx: Any, v: Tensor, scale: Tensor, table: Tensor, slope: Tensor, by_scale: Tensor) -> Tensor:
        codes = v.clamp(0.0, 255.0).round_().to(torch.uint8)
        ctx.index = codes.permute(0, 2, 3, 1) if codes.ndim == 4 else codes
        ctx.slope, ctx.by_scale = slope, by_scale
        return take(table.detach(), ctx.index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        moved = (take(ctx.by_scale, ctx.index).mul_(grads[0]).sum()) if ctx.needs_input_grad[1] else None
        entries = by_entry(grads[0], ctx.index) if ctx.needs_input_grad[2] else None
        return take(ctx.slope, ctx.index).mul_(grads[0]), moved, entries, None, None
