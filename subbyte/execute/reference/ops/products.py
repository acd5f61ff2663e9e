"""Products and differences of two maps; prelu."""

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
    "prelu": Row(_prelu, _prelu_bound),
}
