"""quantize, dequantize, activation, add and mul."""

from __future__ import annotations

import torch
from torch import Tensor

from subbyte.execute.torch.step import Row, Step, from_table, per_channel, store
from subbyte.execute.torch.straight_through import floor, real, round_even


def _quantize(step: Step, arrays: list[Tensor]) -> Tensor:
    y = step.target
    scaled = (arrays[0] * (1.0 / y.scale)).clamp(-y.zero, y.qmax - y.zero)
    if step.unrounded is not None:
        return torch.where(step.unrounded, scaled, round_even(scaled.clone())) + y.zero
    return round_even(scaled) + y.zero


def _activation(step: Step, arrays: list[Tensor]) -> Tensor:
    if step.quantized:
        return from_table(step, arrays[0], step.grid(0))
    return real(step.node.attrs["act"])(arrays[0])


def _add(step: Step, arrays: list[Tensor]) -> Tensor:
    if not step.quantized:
        return arrays[0] + arrays[1]
    y = step.target
    left, right = (
        (array - grid.zero) * (grid.scale / y.scale)
        for array, grid in zip(arrays, (step.grid(0), step.grid(1)), strict=True)
    )
    return store(left + right, y, unrounded=step.unrounded)


def _mul(step: Step, arrays: list[Tensor]) -> Tensor:
    scaled = "channel_scale" in step.node.params
    scale = per_channel(step.param("channel_scale"), arrays[1]) if scaled else None
    if not step.quantized:
        return arrays[0] * (arrays[1] if scale is None else arrays[1] * scale)
    x, gate, y = step.grid(0), step.grid(1), step.target
    multiplier = x.scale * gate.scale / y.scale * 256.0
    multiplier = multiplier if scale is None else multiplier * scale
    factors = round_even((arrays[1] - gate.zero) * multiplier).clamp(-32768.0, 32767.0)
    # (a·128·G + 2^14) >> 15 = floor((a·G + 128) / 256), all below 2^24
    product = ((arrays[0] - x.zero) * factors + 128.0) * 0.00390625
    if step.unrounded is not None:  # floor(v + 1/2) rounds v
        codes = torch.where(step.unrounded, product - 0.5, floor(product))
        return (codes + y.zero).clamp(0.0, y.qmax)
    return (floor(product) + y.zero).clamp(0.0, y.qmax)


ROWS = {
    "quantize": Row(_quantize),
    "dequantize": Row(lambda step, arrays: (arrays[0] - step.grid(0).zero) * step.grid(0).scale),
    "activation": Row(_activation),
    "add": Row(_add),
    "mul": Row(_mul),
}
