"""The order of axes: channels first there, last here."""

from __future__ import annotations

import numpy as np


def to_nchw(x: np.ndarray) -> np.ndarray:
    """[N, H, W, C] to a contiguous [N, C, H, W]; vectors [N, C] stay as they are."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x


def to_nhwc(x: np.ndarray) -> np.ndarray:
    """[N, C, H, W] to a contiguous [N, H, W, C]; vectors [N, C] stay as they are."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x
