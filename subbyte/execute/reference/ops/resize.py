"""Maps of another size: the nearest elements, or what lies between four of them."""

from __future__ import annotations

import numpy as np

from subbyte.execute.reference.step import Row, Step, centred, f32, gamma, moving, store
from subbyte.ir.coordinates import UNIT, linear, nearest

#: In float32: two weights, four products and three sums, of which each element meets six; one at the end.
_ROUNDINGS = 8


def _nearest(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    (height, width, _), (rows, columns) = step.inputs[0].shape, step.node.attrs["size"]
    mode = step.node.attrs["mode"]
    return arrays[0][:, nearest(mode, height, rows)][:, :, nearest(mode, width, columns)]


def _between(step: Step, x: np.ndarray, rounded: bool) -> np.ndarray:
    """[N, Ho, Wo, C] in the type of x; rounded: with the whole weights, whose sum is UNIT * UNIT."""
    size, mode = step.node.attrs["size"], step.node.attrs["mode"]
    for axis in (1, 2):
        points = linear(mode, step.inputs[0].shape[axis - 1], size[axis - 1])
        first, second = [point[0] for point in points], [point[1] for point in points]
        weight = np.array([point[2 if rounded else 3] for point in points], x.dtype)
        weight = weight.reshape(-1, *(1,) * (3 - axis))
        whole = UNIT if rounded else 1
        x = x.take(first, axis) * (whole - weight) + x.take(second, axis) * weight
    return x


def _bilinear(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    if not step.quantized:
        return _between(step, arrays[0].astype(np.float64), rounded=False).astype(f32)
    x, y = step.grid(0), step.target
    sums = _between(step, centred(arrays[0], x).astype(np.int64), rounded=True)
    return store(sums.astype(f32) * (f32(x.scale) / f32(y.scale) / f32(UNIT * UNIT)), y)


def _bilinear_bound(step: Step, arrays: list[np.ndarray], errors: list[np.ndarray]) -> np.ndarray:
    total = _between(step, np.abs(arrays[0]).astype(np.float64) + errors[0], rounded=False)
    return _between(step, errors[0], rounded=False) + gamma(_ROUNDINGS) * total


ROWS = {"resize_nearest": moving(_nearest), "resize_bilinear": Row(_bilinear, _bilinear_bound)}
