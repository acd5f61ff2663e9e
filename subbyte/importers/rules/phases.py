"""Transposed convolutions as convolutions of phases (arXiv 1609.07009)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from subbyte.importers.rules.builder import Rejected
from subbyte.ir.limits import MAX_KERNEL, MAX_PARAMETERS


def phases(weight: np.ndarray, stride: Sequence[int], taps: Sequence[int], groups: int = 1) -> np.ndarray:
    """The kernel of a convolution that makes every phase of a transposed one's output as channels of its own.

    weight: [I, O/groups, kh, kw] of any type, kh <= stride * taps. The result is [O', th, tw, I/groups], th
    and tw being `taps`, output channels by group, phase of rows, phase of columns, channel of the group.
    Raises Rejected if that is more than a layer may have.
    """
    inputs, each, *kernel = weight.shape
    size = math.prod((each * groups, *stride, *taps, inputs // groups))
    if size > MAX_PARAMETERS or max(taps) > MAX_KERNEL:
        raise Rejected(f"as a convolution of phases it would have {size} weights, {list(taps)} taps")
    made = np.zeros((groups, *stride, each, *taps, inputs // groups), weight.dtype)
    by_group = weight.reshape(groups, inputs // groups, each, *kernel)
    for ky in range(kernel[0]):
        for kx in range(kernel[1]):
            # output y = s * i + ky reads input i; as a convolution taps run the other way
            row, column = taps[0] - 1 - ky // stride[0], taps[1] - 1 - kx // stride[1]
            made[:, ky % stride[0], kx % stride[1], :, row, column] = by_group[:, :, :, ky, kx].swapaxes(1, 2)
    return made.reshape(-1, *taps, inputs // groups)
