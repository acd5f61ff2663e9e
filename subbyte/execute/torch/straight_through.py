"""Rounding and table look-up with useful gradients: exact forward, straight-through backward.

"Estimating or Propagating Gradients Through Stochastic Neurons" (arXiv 1308.3432): the backward
pass treats a rounding as the identity and a table as the real function that it samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from subbyte.ir.activations import parse_activation

_REAL: dict[str, Callable[..., Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "hard_swish": F.hardswish,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": F.hardsigmoid,
    "gelu": F.gelu,
    "tanh": torch.tanh,
    "leaky_relu": F.leaky_relu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "elu": torch.ops.aten.elu,
    "mish": F.mish,
    "softplus": lambda x, beta: torch.logaddexp(beta * x, torch.zeros_like(x)) / beta,
    "clip": torch.clamp,
}


def real(act: str) -> Callable[[Tensor], Tensor]:
    """The differentiable function of an `act` attribute, the one of ir.activation_function."""
    row, parameters = parse_activation(act)
    return lambda x: _REAL[row.name](x, *parameters)


def slope(act: str, x: Tensor) -> Tensor:
    """The derivative of the activation function `act` at x."""
    with torch.enable_grad():
        point = x.detach().clone().requires_grad_()
        return torch.autograd.grad(real(act)(point).sum(), point)[0]


class _Substitute(torch.autograd.Function):
    """The value of `hard` with the gradient of `soft`; equal shapes."""

    @staticmethod
    def forward(ctx: Any, hard: Tensor, soft: Tensor) -> Tensor:
        return hard.view_as(hard)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        return None, grads[0]


def substitute(hard: Tensor, soft: Tensor) -> Tensor:
    """`hard` forward, the gradient of `soft` backward; same shape and dtype."""
    return _Substitute.apply(hard, soft)  # type: ignore[no-any-return, no-untyped-call]


def traced(*tensors: Tensor) -> bool:
    """Whether a gradient has to be recorded through any of the tensors."""
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


def round_even(v: Tensor) -> Tensor:
    """Nearest integer, ties to even; gradient 1. Overwrites `v` when nothing records gradients."""
    return substitute(v.detach().round(), v) if traced(v) else v.round_()


def floor(v: Tensor) -> Tensor:
    """Largest integer not above; gradient 1. Overwrites `v` when nothing records gradients."""
    return substitute(v.detach().floor(), v) if traced(v) else v.floor_()


class _RoundClamp(torch.autograd.Function):
    """clamp(rne(v) + zero, low, high); gradient 1 where the clamp leaves the code alone."""

    @staticmethod
    def forward(
        ctx: Any, v: Tensor, zero: float, low: float, high: float | Tensor, unrounded: Tensor | None
    ) -> Tensor:
        rounded = v.round() if unrounded is None else torch.where(unrounded, v, v.round())
        if zero != 0.0:
            rounded.add_(zero)
        if isinstance(high, Tensor):  # a number would have to come from its device
            codes = rounded.clamp(min=low).clamp_(max=high)
        else:
            codes = rounded.clamp(low, high)
        ctx.save_for_backward(rounded == codes)
        return codes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        return grads[0] * ctx.saved_tensors[0], None, None, None, None


def round_clamp(
    v: Tensor, zero: float, low: float, high: float | Tensor, unrounded: Tensor | None = None
) -> Tensor:
    """clamp(rne(v) + zero, low, high), straight through. Overwrites `v` when nothing records gradients.

    No gradient reaches a `high` that is a 0-dim tensor. unrounded: bool of v's shape, where not to round.
    """
    if traced(v) or unrounded is not None:
        return _RoundClamp.apply(v, zero, low, high, unrounded)  # type: ignore[no-any-return, no-untyped-call]
    v.round_().add_(zero)
    return v.clamp_(min=low).clamp_(max=high.detach()) if isinstance(high, Tensor) else v.clamp_(low, high)


class _Sampled(torch.autograd.Function):
    """table[codes], where table[c] samples a function of c and of two scales.

    Its partial derivatives at the 256 codes are tables too, so that backward needs the codes only,
    a byte each. The entries themselves are parameters: each has the gradients of the elements that it made.
    """

    @staticmethod
    def forward(
        ctx: Any, codes: Tensor, source: Tensor, target: Tensor, table: Tensor, slopes: tuple[Tensor, ...]
    ) -> Tensor:
        index = _index(codes)
        ctx.index, ctx.slopes = index, slopes
        return take(table.detach(), index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        results = []
        for i, slope in enumerate(ctx.slopes):
            product = take(slope, ctx.index).mul_(grads[0]) if ctx.needs_input_grad[i] else None
            results.append(product if i == 0 or product is None else product.sum())
        return *results, by_entry(grads[0], ctx.index) if ctx.needs_input_grad[3] else None, None


def sampled(
    codes: Tensor, source: Tensor, target: Tensor, table: Tensor, slopes: tuple[Tensor, ...]
) -> Tensor:
    """table[codes], float32 [256] by exact codes 0 .. 255 held as floats, with gradients.

    source, target: 0-dim scales that the table was made with. slopes: float32 [256] each, the
    derivatives by the code, by `source` and by `target`.
    """
    return _Sampled.apply(codes, source, target, table, slopes)  # type: ignore[no-any-return, no-untyped-call]


def look_up(table: Tensor, codes: Tensor) -> Tensor:
    """table[codes], without gradient: float32 [256] by exact codes 0 .. 255 held as floats."""
    return take(table.detach(), _index(codes))


def _index(codes: Tensor) -> Tensor:
    """Codes as bytes; a map's in NHWC order, which is how they lie in memory."""
    index = codes.detach().to(torch.uint8)
    return index.permute(0, 2, 3, 1) if index.ndim == 4 else index


def by_entry(grad: Tensor, index: Tensor) -> Tensor:
    """The gradient of a table, float32 [256], whose entries `index` made what has the gradient `grad`."""
    rows = grad.permute(0, 2, 3, 1) if grad.ndim == 4 else grad
    sums = torch.zeros(256, dtype=torch.float64, device=grad.device)
    return sums.index_add_(0, index.reshape(-1).long(), rows.reshape(-1).double()).float()


def take(table: Tensor, index: Tensor) -> Tensor:
    """table[index] with a map's axes back in NCHW order."""
    if index.device.type != "cpu":
        result = table[index.long()]
    else:  # numpy's take reads byte indices as they are, torch would widen them
        result = torch.from_numpy(table.numpy().take(index.numpy()))
    return result.permute(0, 3, 1, 2) if result.ndim == 4 else result
