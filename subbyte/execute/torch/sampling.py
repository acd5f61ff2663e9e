"""Rounding and table look-up of whole maps for training, in one pass over memory each way.

On a CPU the native module does it in float32 (native/bindings/sampling.h), on as many threads as torch has;
elsewhere torch, in a few passes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from subbyte import _native


def round_and_look_up(v: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """table[clamp(rne(v), 0, 255)], and the codes looked up, uint8, as they lie in memory.

    v: float32 [N, C, H, W] or [N, C]; table: float32 [256]. The first has v's shape, the second is flat.
    """
    if not _native_takes(v):
        index = _flat(v).clamp(0.0, 255.0).round().to(torch.uint8)
        return _shaped(table[index.long()], v), index
    flat = _flat(v)
    out, index = torch.empty_like(flat), torch.empty(flat.shape, dtype=torch.uint8)
    _native.round_and_look_up(
        flat.numpy(), table.numpy(), index.numpy(), out.numpy(), torch.get_num_threads()
    )
    return _shaped(out, v), index


def slope_and_sum(gradient: Tensor, slopes: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """gradient · slopes[index], float32 of gradient's shape, and float64 [256]: Σ gradient by code.

    index: from round_and_look_up, of a map of that shape; slopes: float32 [256].
    """
    flat = _flat(gradient)
    if not _native_takes(gradient):
        sums = torch.zeros(256, dtype=torch.float64, device=flat.device)
        sums.index_add_(0, index.long(), flat.double())
        return _shaped(flat * slopes[index.long()], gradient), sums
    out, total = torch.empty_like(flat), np.empty(256)
    _native.slope_and_sum(
        flat.numpy(), slopes.numpy(), index.numpy(), out.numpy(), total, torch.get_num_threads()
    )
    return _shaped(out, gradient), torch.from_numpy(total)


def _native_takes(v: Tensor) -> bool:
    return v.device.type == "cpu" and v.dtype == torch.float32


def _flat(v: Tensor) -> Tensor:
    """The elements in NHWC order, without a copy where they lie so."""
    return (v.permute(0, 2, 3, 1) if v.ndim == 4 else v).contiguous().view(-1)


def _shaped(flat: Tensor, like: Tensor) -> Tensor:
    if like.ndim != 4:
        return flat.view(like.shape)
    n, c, h, w = like.shape
    return flat.view(n, h, w, c).permute(0, 3, 1, 2)
