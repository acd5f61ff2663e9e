"""global_avg_pool, and what only moves elements and keeps the grid: max_pool2d, concat, flatten."""

from __future__ import annotations

import numpy as np

from subbyte.execute.reference.step import Row, Step, centred, f32, gamma, moving, store
from subbyte.execute.reference.windows import patches


def _global_avg_pool(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    if not step.quantized:
        return arrays[0].astype(np.float64).mean(axis=(1, 2), keepdims=True).astype(f32)
    x, y = step.grid(0), step.target
    total = centred(arrays[0], x).astype(np.int64).sum(axis=(1, 2), keepdims=True)
    positions = arrays[0].shape[1] * arrays[0].shape[2]
    return store(total.astype(f32) * (f32(x.scale) / f32(y.scale) / f32(positions)), y)


def _global_avg_pool_bound(step: Step, arrays: list[np.ndarray], errors: list[np.ndarray]) -> np.ndarray:
    x, terms = np.abs(arrays[0]) + errors[0], arrays[0].shape[1] * arrays[0].shape[2]
    mean = x.mean(axis=(1, 2), keepdims=True)
    return errors[0].mean(axis=(1, 2), keepdims=True) + gamma(terms + 2) * mean


def _max_pool2d(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    lowest, attrs = 0 if step.quantized else -np.inf, step.node.attrs
    columns = patches(arrays[0], tuple(attrs["kernel"]), attrs["stride"], attrs["pad"], lowest)
    return columns.max(axis=3)


def _flatten(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0].reshape(arrays[0].shape[0], int(np.prod(arrays[0].shape[1:])))


ROWS = {
    "global_avg_pool": Row(_global_avg_pool, _global_avg_pool_bound),
    "max_pool2d": moving(_max_pool2d),
    "concat": moving(lambda step, arrays: np.concatenate(arrays, axis=-1)),
    "flatten": moving(_flatten),
}
