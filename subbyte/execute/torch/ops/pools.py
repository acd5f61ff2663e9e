"""global_avg_pool: a mean over all positions."""

from __future__ import annotations

import torch
from torch import Tensor

from subbyte.execute.torch.step import EXACT_FLOAT32, Row, Step, store


def _global_avg_pool(step: Step, arrays: list[Tensor]) -> Tensor:
    if not step.quantized:
        return arrays[0].double().mean((2, 3), keepdim=True).float()
    x, y = step.grid(0), step.target
    positions = arrays[0].shape[2] * arrays[0].shape[3]
    wide = torch.float32 if positions * x.qmax < EXACT_FLOAT32 else torch.float64
    total = (arrays[0] - x.zero).to(wide).sum((2, 3), keepdim=True).float()
    return store(total * (x.scale / y.scale / float(positions)), y)


ROWS = {"global_avg_pool": Row(_global_avg_pool)}
