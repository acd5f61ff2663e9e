"""Layers for training: what their rows' `run` computes but for float32 rounding, in fewer passes.

The multiplier to the target's grid is folded into the weights, zero points into the bias, and an
activation's gradient is looked up by the byte that its table was looked up with. Most of the time
of training goes into passes over memory, and this is half of them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from subbyte.execute.torch.estimators import STE, derivatives, rounded, sampled_sums
from subbyte.execute.torch.step import Grid, Step, bounds, from_table, products, slopes, window
from subbyte.execute.torch.straight_through import real, round_clamp
from subbyte.ir import Node


def layer(step: Step, arrays: list[Tensor]) -> Tensor:
    """A quantized conv2d or linear: codes, or reals where the output is real."""
    x = step.grid(0)
    real = x.scale * step.param("weight_scale")
    if step.output.q is None:
        return _sums(step, arrays[0], x, real, 0.0)
    table = "table" in step.node.params
    target = step.pre if table else step.target
    v = _sums(step, arrays[0], x, real / target.scale, target.zero)
    how, zero = step.estimator, step.zero
    if table and step.unrounded is not None:
        return from_table(step, round_clamp(v, 0.0, 0.0, 255.0), target)
    if table:
        scales = (target.scale, step.target.scale)
        return sampled_sums(v, *scales, zero, step.param("table"), _tables(step, target))
    if len(arrays) == 2:
        r = step.grid(1)
        v = v + (arrays[1] - r.zero) * (r.scale / target.scale)
    low, high = bounds(step.node.attrs["act"], target)
    if not (how.plain and zero is None) and step.unrounded is None:
        return rounded(v, zero, low, target.qmax if high is None else high.detach(), how)
    return round_clamp(v, 0.0, low, target.qmax if high is None else high.detach(), step.unrounded)


def _tables(step: Step, source: Grid) -> dict[str, Tensor]:
    """The derivatives of its table."""
    act, y = step.node.attrs["act"], step.target
    codes = torch.arange(256.0, device=source.scale.device)
    exact = real(act)((codes - source.zero) * source.scale.detach()) / y.scale.detach() + y.zero
    how = step.estimator if y.levels is None else STE  # levels are no equal steps
    return derivatives(exact, y.qmax, slopes(act, source, y), how)


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
    if step.bfloat16 and narrows(node):
        return narrow_products(node, codes, weight, bias)
    return products(node, codes, weight, bias)


def narrows(node: Node) -> bool:
    """Whether gradients of a layer may be computed from bfloat16 numbers: oneDNN is slow at grouped ones."""
    return node.op == "conv2d" and node.attrs["groups"] == 1 and "dilation" not in node.attrs


def narrow_products(node: Node, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`products` whose gradients are computed from bfloat16 numbers, of a layer that `narrows`."""
    x, stride, padding, groups = window(node, x)
    return _NarrowProducts.apply(x, weight, bias, stride, padding, groups)  # type: ignore[no-any-return, no-untyped-call]


class _NarrowProducts(torch.autograd.Function):
    """`products` with a backward pass on bfloat16 numbers, which hold codes and their differences exactly.

    Gradients and weights are rounded to 8 binary digits there: far less than what passes straight through
    a rounding is wrong by, at half the time where the CPU multiplies bfloat16 numbers.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: list[int], padding: list[int], groups: int
    ) -> Tensor:
        ctx.save_for_backward(x.to(torch.bfloat16), weight.to(torch.bfloat16))
        ctx.window = stride, padding, groups
        return F.conv2d(x, weight, bias, stride, padding, 1, groups)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), (stride, padding, groups) = ctx.saved_tensors, ctx.window
        wanted = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], False]
        by_x, by_weight, _ = torch.ops.aten.convolution_backward(
            grads[0].to(torch.bfloat16),
            x,
            weight,
            None,
            stride,
            padding,
            [1, 1],
            False,
            [0, 0],
            groups,
            wanted,
        )
        return (
            by_x.float() if wanted[0] else None,
            by_weight.float() if wanted[1] else None,
            grads[0].sum((0, 2, 3)) if ctx.needs_input_grad[2] else None,
            None,
            None,
            None,
        )


def bfloat16_pays() -> bool:
    """Whether this CPU multiplies bfloat16 numbers faster than float32 ones."""
    return torch.cpu._is_avx512_bf16_supported()
