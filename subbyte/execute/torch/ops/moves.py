"""concat, flatten, and max_pool2d, which also only moves elements: they keep the grid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from subbyte.execute.torch.step import Row, Step


def _max_pool2d(step: Step, arrays: list[Tensor]) -> Tensor:
    top, bottom, left, right = step.node.attrs["pad"]
    lowest = 0.0 if step.quantized else -float("inf")
    padded = F.pad(arrays[0], (left, right, top, bottom), value=lowest)
    return F.max_pool2d(padded, tuple(step.node.attrs["kernel"]), tuple(step.node.attrs["stride"]))


def _concat(step: Step, arrays: list[Tensor]) -> Tensor:
    return torch.cat(arrays, 1)


def _flatten(step: Step, arrays: list[Tensor]) -> Tensor:
    x = arrays[0]
    return (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).flatten(1)


ROWS = {"max_pool2d": Row(_max_pool2d), "concat": Row(_concat), "flatten": Row(_flatten)}
