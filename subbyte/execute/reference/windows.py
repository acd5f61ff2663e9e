"""Sliding windows over NHWC maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def patches(
    x: np.ndarray,
    kernel: tuple[int, ...],
    stride: Sequence[int],
    pad: Sequence[int],
    fill: float = 0,
    dilation: Sequence[int] = (1, 1),
) -> np.ndarray:
    """x [N, H, W, C] to its windows [N, Ho, Wo, kh*kw, C], padded (t, b, l, r) with `fill`."""
    top, bottom, left, right = pad
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _reach(kernel, dilation), axis=(1, 2))
    windows = windows[
        :, :: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]
    ]  # [N, Ho, Wo, C, kh, kw]
    n, ho, wo, c = windows.shape[:4]
    return windows.reshape(n, ho, wo, c, kernel[0] * kernel[1]).swapaxes(3, 4)


def _reach(kernel: tuple[int, ...], dilation: Sequence[int]) -> tuple[int, ...]:
    return tuple((taps - 1) * apart + 1 for taps, apart in zip(kernel, dilation, strict=True))
