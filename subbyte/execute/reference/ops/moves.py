"""concat, flatten, and max_pool2d, which also only moves elements: they keep the grid."""

from __future__ import annotations

import numpy as np

from subbyte.execute.reference.step import Step, moving
from subbyte.execute.reference.windows import patches


def _max_pool2d(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    lowest, attrs = 0 if step.quantized else -np.inf, step.node.attrs
    columns = patches(arrays[0], tuple(attrs["kernel"]), attrs["stride"], attrs["pad"], lowest)
    return columns.max(axis=3)


def _concat(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays, axis=-1)


def _flatten(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0].reshape(arrays[0].shape[0], int(np.prod(arrays[0].shape[1:])))


ROWS = {"max_pool2d": moving(_max_pool2d), "concat": moving(_concat), "flatten": moving(_flatten)}
