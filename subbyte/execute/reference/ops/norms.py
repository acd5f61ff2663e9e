"""Normalizations and attention: on float32 values only, in float64, rounded once."""

from __future__ import annotations

import numpy as np

from subbyte.execute.reference.step import UNIT, Row, Step, f32

#: Half an ulp of 1 in float64.
_WIDE = 2.0**-53


def _grouped(step: Step, x: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """x in float64 with the numbers that are normalized together along the axes of the second result."""
    if step.node.op == "layer_norm":
        return x.astype(np.float64), (x.ndim - 1,)
    groups = step.node.attrs["groups"]
    return x.astype(np.float64).reshape(*x.shape[:3], groups, x.shape[3] // groups), (1, 2, 4)


def _norm(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    x, axes = _grouped(step, arrays[0])
    d = x - x.mean(axes, keepdims=True)
    normal = d / np.sqrt((d * d).mean(axes, keepdims=True) + step.node.attrs["eps"])
    p = {role: np.asarray(param, np.float64) for role, param in step.node.params.items()}
    return (normal.reshape(arrays[0].shape) * p["weight"] + p["bias"]).astype(f32)


def _norm_bound(step: Step, arrays: list[np.ndarray], errors: list[np.ndarray]) -> np.ndarray:
    """With d = x - mean and s = sqrt(mean(d^2) + eps): where x moves by e, d moves by at most e + mean(e),
    and s by at most the root mean square of that, so that d/s moves by (|Δd| + |d| Δs / s) / s'."""
    x, axes = _grouped(step, arrays[0])
    e, _ = _grouped(step, errors[0])
    count = np.prod([x.shape[axis] for axis in axes])
    e = e + 2 * (count + 8) * _WIDE * (np.abs(x) + np.abs(x).mean(axes, keepdims=True))
    d = x - x.mean(axes, keepdims=True)
    eps = step.node.attrs["eps"]
    s = np.sqrt((d * d).mean(axes, keepdims=True) + eps)
    moved = e + e.mean(axes, keepdims=True)
    spread = np.sqrt((moved * moved).mean(axes, keepdims=True))
    least = np.maximum(s - spread, np.sqrt(eps))
    change = ((moved + np.abs(d) * spread / s) / least).reshape(arrays[0].shape)
    result = np.abs(_norm(step, arrays).astype(np.float64))
    weight = np.abs(np.asarray(step.node.params["weight"], np.float64))
    bias = np.abs(np.asarray(step.node.params["bias"], np.float64))
    return weight * change + 2 * UNIT * (result + weight * change) + 16 * _WIDE * (result + 2 * bias)


def _softmax(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    x = arrays[0].astype(np.float64)
    powers = np.exp(x - x.max(-1, keepdims=True))
    return (powers / powers.sum(-1, keepdims=True)).astype(f32)


def _softmax_bound(step: Step, arrays: list[np.ndarray], errors: list[np.ndarray]) -> np.ndarray:
    """Where inputs move by at most e, e^x moves by a factor of e^e, and so does the sum."""
    y = _softmax(step, arrays).astype(np.float64)
    grown = y * np.expm1(2 * errors[0].max(-1, keepdims=True))
    wide = (arrays[0].shape[-1] + 16) * 2 * _WIDE
    return grown + (2 * UNIT + wide) * (y + grown) + 2.0**-149


def _matmul(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    a, b = (array.astype(np.float64) for array in arrays)
    return (a @ b.swapaxes(-1, -2)).astype(f32)


def _matmul_bound(step: Step, arrays: list[np.ndarray], errors: list[np.ndarray]) -> np.ndarray:
    (a, b), (da, db) = (np.abs(x).astype(np.float64) for x in arrays), errors
    total, known = (a + da) @ (b + db).swapaxes(-1, -2), a @ b.swapaxes(-1, -2)
    wide = 2 * (a.shape[-1] + 2) * _WIDE
    return total - known + 2 * UNIT * (np.abs(_matmul(step, arrays)) + total - known) + 2 * wide * total


ROWS = {
    "layer_norm": Row(_norm, _norm_bound),
    "group_norm": Row(_norm, _norm_bound),
    "softmax": Row(_softmax, _softmax_bound),
    "matmul": Row(_matmul, _matmul_bound),
}
