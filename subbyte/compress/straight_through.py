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

REAL: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "hard_swish": F.hardswish,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": F.hardsigmoid,
    "gelu": F.gelu,
    "tanh": torch.tanh,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.01),
}
"""Activation name to its differentiable function, the one of reference.activation_function."""


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
    return _Substitute.apply(hard, soft)


def traced(*tensors: Tensor) -> bool:
    """Whether a gradient has to be recorded through any of the tensors."""
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


def round_even(v: Tensor) -> Tensor:
    """Nearest integer, ties to even; gradient 1. Overwrites `v` when nothing records gradients."""
    return substitute(v.detach().round(), v) if traced(v) else v.round_()


def floor(v: Tensor) -> Tensor:
    """Largest integer not above; gradient 1. Overwrites `v` when nothing records gradients."""
    return substitute(v.detach().floor(), v) if traced(v) else v.floor_()


def look_up(table: Tensor, codes: Tensor) -> Tensor:
    """table[codes], without gradient: float32 [256] by exact codes 0 .. 255 held as floats."""
    table, index = table.detach(), codes.detach().to(torch.uint8)
    if index.device.type != "cpu":
        return table[index.long()]
    # numpy's take reads byte indices as they are, torch would widen them; a map's memory is NHWC
    if index.ndim == 4:
        return torch.from_numpy(table.numpy().take(index.permute(0, 2, 3, 1).numpy())).permute(0, 3, 1, 2)
    return torch.from_numpy(table.numpy().take(index.numpy()))
