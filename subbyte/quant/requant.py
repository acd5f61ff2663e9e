"""Derived integer constants: multipliers, biases, clamp bounds and activation tables.

Everything here is defined in docs/spec/numerics.md; all three executors use these numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from subbyte.errors import GraphError
from subbyte.quant.bias import LARGEST
from subbyte.quant.qparams import QParams, nearest_levels


def conv_multiplier(x: QParams, weight_scale: np.ndarray, target: QParams | None) -> np.ndarray:
    """float32 [O]: accumulator units to target codes, fl(fl(s_x * s_w[o]) / s_target).

    Without a target (real-valued output) the division is left out.
    """
    product = np.float32(x.scale) * weight_scale
    return product if target is None else product / np.float32(target.scale)


def quantize_bias(bias: np.ndarray, x: QParams, weight_scale: np.ndarray) -> np.ndarray:
    """Real bias [O] to int32 [O] in accumulator units s_x * s_w[o], round half to even.

    Raises GraphError if a bias does not fit in 31 bits.
    """
    unit = np.float64(x.scale) * weight_scale.astype(np.float64)
    codes = np.rint(bias.astype(np.float64) / unit)
    if codes.size and np.abs(codes).max() > LARGEST:
        raise GraphError(
            "a bias does not fit its accumulator: the layer's weights or inputs are almost zero; "
            "keep this layer in float32"
        )
    return codes.astype(np.int32)


def moved_bias(bias: np.ndarray, before: np.ndarray, after: np.ndarray, largest: int) -> np.ndarray:
    """Bias codes int32 [O] in units of weight scales `before` as those of scales `after`, float32 [O], within
    +-largest, rounded half to even."""
    moved = np.rint(bias * (before.astype(np.float64) / after.astype(np.float64)))
    codes: np.ndarray = np.clip(moved, -largest, largest).astype(np.int32)
    return codes


def gate_multiplier_scale(
    x: QParams, gate: QParams, y: QParams, channel_scale: np.ndarray | None = None
) -> np.ndarray:
    """float32 s_x * s_g / s_y * 256, times channel_scale [C] if there is one: turns gate codes into Q15
    factors (op `mul`). 0-dim without channel_scale, else [C]."""
    scale = np.float32(x.scale) * np.float32(gate.scale) / np.float32(y.scale) * np.float32(256)
    return np.asarray(scale if channel_scale is None else scale * channel_scale)


def product_multiplier(a: QParams, b: QParams, y: QParams) -> np.float32:
    """From the product of two codes to codes of y: fl(fl(s_a * s_b) / s_y)."""
    return np.float32(a.scale) * np.float32(b.scale) / np.float32(y.scale)


def clamp_bounds(act: str, y: QParams) -> tuple[int, int]:
    """The code range that a clamping activation (none, relu, relu6) leaves on grid `y`.

    Raises GraphError for another activation.
    """
    if act == "none":
        return 0, y.qmax
    if act == "relu":
        return y.zero_point, y.qmax
    if act == "relu6":
        six = int(np.rint(np.float32(6.0) / np.float32(y.scale))) + y.zero_point
        return y.zero_point, min(y.qmax, six)
    raise GraphError(f"activation {act!r} needs a table, not clamp bounds")


def activation_table(fn: Callable[[np.ndarray], np.ndarray], pre: QParams, y: QParams) -> np.ndarray:
    """uint8 [256]: code on grid `pre` to code on grid `y` through the real function `fn`.

    Computed in float64, rounded half to even and clamped, or to the nearest level where `y` has levels, of
    two to the lower. Entries beyond pre.qmax repeat the last one.
    """
    codes = np.minimum(np.arange(256), pre.qmax)
    real = (codes - pre.zero_point) * np.float64(pre.scale)
    exact = fn(real) / np.float64(y.scale)
    if y.levels is not None:
        return nearest_levels(exact + y.zero_point, y.levels)
    return np.clip(np.rint(exact) + y.zero_point, 0, y.qmax).astype(np.uint8)
