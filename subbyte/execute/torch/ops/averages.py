"""avg_pool2d and adaptive_avg_pool2d: sums over windows, divided by how many positions count."""

from __future__ import annotations

import torch
from torch import Tensor

from subbyte.execute.torch.step import EXACT_FLOAT32, Row, Step, store
from subbyte.ir.coordinates import Span, spans


def _along(x: Tensor, inside: list[Span], axis: int) -> Tensor:
    return torch.stack([x.narrow(axis, begin, end - begin).sum(axis) for begin, end in inside], axis)


def _average(step: Step, arrays: list[Tensor]) -> Tensor:
    (height, width, _), (rows, columns, _) = step.inputs[0].shape, step.output.shape
    inside_y, counted_y = spans(step.node, 0, height, rows)
    inside_x, counted_x = spans(step.node, 1, width, columns)
    counted = torch.outer(*(torch.tensor(c, device=arrays[0].device).float() for c in (counted_y, counted_x)))
    if not step.quantized:
        return (_along(_along(arrays[0].double(), inside_y, 2), inside_x, 3) / counted).float()
    x, y = step.grid(0), step.target
    wide = torch.float32 if float(counted.max()) * x.qmax < EXACT_FLOAT32 else torch.float64
    sums = _along(_along((arrays[0] - x.zero).to(wide), inside_y, 2), inside_x, 3).float()
    return store(sums * (x.scale / y.scale / counted), y, unrounded=step.unrounded)


ROWS = {"avg_pool2d": Row(_average), "adaptive_avg_pool2d": Row(_average)}
