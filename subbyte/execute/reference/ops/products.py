"""Products, differences and quotients of two maps; square roots; prelu."""

from __future__ import annotations

import numpy as np

from subbyte.execute.reference.step import UNIT, Row, Step, centred, f32, gamma, store
from subbyte.ir.grid_rules import slope_multipliers
from subbyte.quant import product_multiplier


def _multiply(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    if not step.quantized:
        return arrays[0] * arrays[1]
    a, b, y = step.grid(0), step.grid(1), step.target
    product = centred(arrays[0], a) * centred(arrays[1], b)
    return store(product.astype(f32) * product_multiplier(a, b, y), y)


def _multiply_bound(step: Step, arrays: list[np.ndarray], errors: list[np.ndarray]) -> np.ndarray:
    (a, b), (da, db) = (np.abs(x).astype(np.float64) for x in arrays), errors
    moved = a * db + b * da + da * db
    return moved + gamma(1) * (moved + 2 * a * b)


def _subtract(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    if not step.quantized:
        return arrays[0] - arrays[1]
    a, b, y = step.grid(0), step.grid(1), step.target
    left = centred(arrays[0], a).astype(f32) * (f32(a.scale) / f32(y.scale))
    right = centred(arrays[1], b).astype(f32) * (f32(b.scale) / f32(y.scale))
    return store(left - right, y)


def _subtract_bound(step: Step, arrays: list[np.ndarray], errors: list[np.ndarray]) -> np.ndarray:
    moved = errors[0] + errors[1]
    return moved + gamma(1) * (moved + 2 * np.abs(arrays[0] - arrays[1]))


def _divide(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    """Rounding to codes may make both zero; anything else over zero is what IEEE 754 says."""
    a, b = arrays
    with np.errstate(all="ignore"):
        return np.where((a == 0) & (b == 0), f32(0), a / b)


def _divide_bound(step: Step, arrays: list[np.ndarray], errors: list[np.ndarray]) -> np.ndarray:
    """|a/b - a'/b'| <= (|a| db + |b| da) / (|b| |b'|), which has no limit where b' may be 0."""
    (a, b), (da, db) = (np.abs(x).astype(np.float64) for x in arrays), errors
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = np.where((da == 0) & (db == 0), 0.0, (a * db + b * da) / (b * np.maximum(b - db, 0.0)))
        return moved + gamma(1) * (moved + 2 * np.where(a == 0, 0.0, a / b))


def _sqrt(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    return np.sqrt(np.maximum(arrays[0], f32(0)))


def _sqrt_bound(step: Step, arrays: list[np.ndarray], errors: list[np.ndarray]) -> np.ndarray:
    """The root is steepest towards 0."""
    x, e = arrays[0].astype(np.float64), errors[0]
    root = np.sqrt(np.maximum(x, 0.0))
    moved = root - np.sqrt(np.maximum(x - e, 0.0))
    moved = np.maximum(moved, np.sqrt(np.maximum(x + e, 0.0)) - root)
    return moved + gamma(1) * (moved + 2 * root)


def _prelu(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    if not step.quantized:
        slope = np.asarray(step.node.params["slope"])
        return np.where(arrays[0] >= 0, arrays[0], slope * arrays[0])
    x, y = step.grid(0), step.target
    codes, below = centred(arrays[0], x), slope_multipliers(step.node, x, y)
    factor = np.where(codes < 0, below, f32(x.scale) / f32(y.scale))
    return store(codes.astype(f32) * factor, y)


def _prelu_bound(step: Step, arrays: list[np.ndarray], errors: list[np.ndarray]) -> np.ndarray:
    slope = np.abs(np.asarray(step.node.params["slope"], np.float64))
    moved = np.maximum(1.0, slope) * errors[0]
    return moved + 2 * UNIT * (slope * np.abs(arrays[0]) + moved)


ROWS = {
    "multiply": Row(_multiply, _multiply_bound),
    "subtract": Row(_subtract, _subtract_bound),
    "divide": Row(_divide, _divide_bound),
    "sqrt": Row(_sqrt, _sqrt_bound),
    "prelu": Row(_prelu, _prelu_bound),
}
