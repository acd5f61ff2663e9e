"""avg_pool2d and adaptive_avg_pool2d: sums over windows, divided by how many positions count."""

from __future__ import annotations

import numpy as np

from subbyte.execute.reference.step import Row, Step, centred, f32, gamma, store
from subbyte.ir.coordinates import Span, spans


def _sums(step: Step, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[N, Ho, Wo, C], sums over each window in the type of x, and how many positions count, [Ho, Wo, 1]."""
    (height, width, _), (rows, columns, _) = step.inputs[0].shape, step.output.shape
    inside_y, counted_y = spans(step.node, 0, height, rows)
    inside_x, counted_x = spans(step.node, 1, width, columns)
    sums = _along(_along(x, inside_y, 1), inside_x, 2)
    return sums, np.outer(counted_y, counted_x)[:, :, None]


def _along(x: np.ndarray, inside: list[Span], axis: int) -> np.ndarray:
    parts = [x.take(range(begin, end), axis).sum(axis=axis) for begin, end in inside]
    return np.stack(parts, axis)


def _average(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    if not step.quantized:
        sums, counted = _sums(step, arrays[0].astype(np.float64))
        return (sums / counted).astype(f32)
    x, y = step.grid(0), step.target
    sums, counted = _sums(step, centred(arrays[0], x).astype(np.int64))
    return store(sums.astype(f32) * (f32(x.scale) / f32(y.scale) / counted.astype(f32)), y)


def _average_bound(step: Step, arrays: list[np.ndarray], errors: list[np.ndarray]) -> np.ndarray:
    sums, counted = _sums(step, np.abs(arrays[0]).astype(np.float64) + errors[0])
    spread, _ = _sums(step, errors[0])
    terms = int(counted.max())
    return spread / counted + gamma(terms + 2) * sums / counted


ROWS = {
    "avg_pool2d": Row(_average, _average_bound),
    "adaptive_avg_pool2d": Row(_average, _average_bound),
}
