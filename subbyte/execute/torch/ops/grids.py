"""quantize and dequantize."""

from __future__ import annotations

from torch import Tensor

from subbyte.execute.torch.step import Row, Step
from subbyte.execute.torch.straight_through import round_even


def _quantize(step: Step, arrays: list[Tensor]) -> Tensor:
    y = step.target
    scaled = (arrays[0] * (1.0 / y.scale)).clamp(-y.zero, y.qmax - y.zero)
    return round_even(scaled) + y.zero


def _dequantize(step: Step, arrays: list[Tensor]) -> Tensor:
    return (arrays[0] - step.grid(0).zero) * step.grid(0).scale


ROWS = {"quantize": Row(_quantize), "dequantize": Row(_dequantize)}
