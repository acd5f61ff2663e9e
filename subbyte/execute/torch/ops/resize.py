"""Maps of another size: the nearest elements, or what lies between four of them."""

from __future__ import annotations

import torch
from torch import Tensor

from subbyte.execute.torch.step import Row, Step, store
from subbyte.ir.coordinates import UNIT, linear, nearest


def _nearest(step: Step, arrays: list[Tensor]) -> Tensor:
    x, mode = arrays[0], step.node.attrs["mode"]
    for axis in (2, 3):
        indices = nearest(mode, step.inputs[0].shape[axis - 2], step.node.attrs["size"][axis - 2])
        x = x.index_select(axis, torch.tensor(indices, device=x.device))
    return x


def _between(step: Step, x: Tensor, rounded: bool) -> Tensor:
    """[N, C, Ho, Wo] in the type of x; rounded: with the whole weights, whose sum is UNIT * UNIT."""
    mode = step.node.attrs["mode"]
    for axis in (2, 3):
        points = linear(mode, step.inputs[0].shape[axis - 2], step.node.attrs["size"][axis - 2])
        first, second = (torch.tensor([point[i] for point in points], device=x.device) for i in (0, 1))
        exact = torch.tensor([point[2 if rounded else 3] for point in points], dtype=torch.float64)
        weight, rest = (
            t.to(x.device, x.dtype).view(-1, *(1,) * (3 - axis))
            for t in (exact, (UNIT if rounded else 1) - exact)
        )
        x = x.index_select(axis, first) * rest + x.index_select(axis, second) * weight
    return x


def _bilinear(step: Step, arrays: list[Tensor]) -> Tensor:
    if not step.quantized:
        return _between(step, arrays[0], rounded=False)
    x, y = step.grid(0), step.target
    sums = _between(step, (arrays[0] - x.zero).double(), rounded=True).float()
    return store(sums * (x.scale / y.scale / float(UNIT * UNIT)), y, unrounded=step.unrounded)


ROWS = {"resize_nearest": Row(_nearest), "resize_bilinear": Row(_bilinear)}
