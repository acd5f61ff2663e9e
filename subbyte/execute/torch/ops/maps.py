"""global_avg_pool, and what only moves elements and keeps the grid: max_pool2d, concat, flatten."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from subbyte.execute.torch.step import EXACT_FLOAT32, Row, Step, store


def _global_avg_pool(step: Step, arrays: list[Tensor]) -> Tensor:
    if not step.quantized:
        return arrays[0].double().mean((2, 3), keepdim=True).float()
    x, y = step.grid(0), step.target
    positions = arrays[0].shape[2] * arrays[0].shape[3]
    wide = torch.float32 if positions * x.qmax < EXACT_FLOAT32 else torch.float64
    total = (arrays[0] - x.zero).to(wide).sum((2, 3), keepdim=True).float()
    return store(total * (x.scale / y.scale / float(positions)), y, unrounded=step.unrounded)


def _max_pool2d(step: Step, arrays: list[Tensor]) -> Tensor:
    top, bottom, left, right = step.node.attrs["pad"]
    lowest = 0.0 if step.quantized else -float("inf")
    padded = F.pad(arrays[0], (left, right, top, bottom), value=lowest)
    return F.max_pool2d(padded, tuple(step.node.attrs["kernel"]), tuple(step.node.attrs["stride"]))


def _flatten(step: Step, arrays: list[Tensor]) -> Tensor:
    x = arrays[0]
    return (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).flatten(1)


ROWS = {
    "global_avg_pool": Row(_global_avg_pool),
    "max_pool2d": Row(_max_pool2d),
    "concat": Row(lambda step, arrays: torch.cat(arrays, 1)),
    "flatten": Row(_flatten),
}
