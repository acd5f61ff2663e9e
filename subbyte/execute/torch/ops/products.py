"""Products and differences of two maps; prelu."""

from __future__ import annotations

import torch
from torch import Tensor

from subbyte.execute.torch.step import Row, Step, per_channel, store


def _multiply(step: Step, arrays: list[Tensor]) -> Tensor:
    if not step.quantized:
        return arrays[0] * arrays[1]
    a, b, y = step.grid(0), step.grid(1), step.target
    product = (arrays[0] - a.zero) * (arrays[1] - b.zero)
    return store(product * (a.scale * b.scale / y.scale), y, unrounded=step.unrounded)


def _subtract(step: Step, arrays: list[Tensor]) -> Tensor:
    if not step.quantized:
        return arrays[0] - arrays[1]
    a, b, y = step.grid(0), step.grid(1), step.target
    left, right = (
        (array - grid.zero) * (grid.scale / y.scale) for array, grid in zip(arrays, (a, b), strict=True)
    )
    return store(left - right, y, unrounded=step.unrounded)


def _divide(step: Step, arrays: list[Tensor]) -> Tensor:
    a, b = arrays
    nothing = (a == 0) & (b == 0)
    return torch.where(nothing, torch.zeros_like(a), a / torch.where(nothing, torch.ones_like(b), b))


def _prelu(step: Step, arrays: list[Tensor]) -> Tensor:
    slope = step.param("slope")
    if not step.quantized:
        return torch.where(arrays[0] >= 0, arrays[0], arrays[0] * per_channel(slope, arrays[0]))
    x, y = step.grid(0), step.target
    codes, ratio = arrays[0] - x.zero, x.scale / y.scale
    factor = torch.where(codes < 0, per_channel(ratio * slope, codes), ratio)
    return store(codes * factor, y, unrounded=step.unrounded)


ROWS = {
    "multiply": Row(_multiply),
    "subtract": Row(_subtract),
    "divide": Row(_divide),
    "sqrt": Row(lambda step, arrays: torch.sqrt(arrays[0].clamp_min(0))),
    "prelu": Row(_prelu),
}
