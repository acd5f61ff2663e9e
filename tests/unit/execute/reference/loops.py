"""docs/spec/numerics.md once more, element by element in exact arithmetic: slow and plain.

Written from that page alone and sharing no code with subbyte/execute/reference, so that the two check each
other. Arrays are uint8 codes [H, W, C]; results are nested by np.ndindex into int or Fraction.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from subbyte.ir import Node, Value
from subbyte.quant import QParams, QTensor
from tests.unit.exact import clamp, fl, real, rne


def accumulator(node: Node, x: np.ndarray, zero: int, position: tuple[int, int], o: int) -> Fraction:
    """Sum of (x - zero) * w over one window, plus the bias, exactly; for float weights with zero 0."""
    weight, bias = node.params["weight"], node.params["bias"]
    assert isinstance(bias, np.ndarray)
    w = weight.levels[weight.codes] if isinstance(weight, QTensor) else weight
    total = real(bias, o)
    if node.op == "linear":
        return total + sum((real(x, i) - zero) * real(w, o, i) for i in range(x.shape[0]))
    (top, _, left, _), (sy, sx) = node.attrs["pad"], node.attrs["stride"]
    outputs, kh, kw, depth = w.shape
    group = o // (outputs // node.attrs["groups"])
    for dy in range(kh):
        for dx in range(kw):
            row, column = position[0] * sy - top + dy, position[1] * sx - left + dx
            if 0 <= row < x.shape[0] and 0 <= column < x.shape[1]:
                for i in range(depth):
                    pixel = real(x, row, column, group * depth + i)
                    total += (pixel - zero) * real(w, o, dy, dx, i)
    return total


def layer(node: Node, arrays: list[np.ndarray], inputs: list[Value], output: Value) -> np.ndarray:
    """A quantized conv2d or linear: the four cases of the page."""
    x, weight = inputs[0].q, node.params["weight"]
    assert x is not None
    assert isinstance(weight, QTensor)
    result = np.empty(output.shape, object)
    for index in np.ndindex(output.shape):
        acc = accumulator(node, arrays[0], x.zero_point, index[:2], index[-1])
        unit = fl(Fraction(x.scale) * real(weight.scale, index[-1]))
        residual = arrays[1][index].item() if len(arrays) == 2 else None
        result[index] = requantize(node, acc, unit, residual, inputs, output.q)
    return result


def requantize(
    node: Node, acc: Fraction, unit: Fraction, residual: int | None, inputs: list[Value], y: QParams | None
) -> int | Fraction:
    if y is None:
        return fl(fl(acc) * unit)
    if "table" in node.params:
        v = fl(fl(acc) * fl(unit / Fraction(node.attrs["pre_scale"])))
        return int(node.params["table"][clamp(rne(v) + node.attrs["pre_zero"], 0, 255)])  # type: ignore[index]
    v = fl(fl(acc) * fl(unit / Fraction(y.scale)))
    if residual is not None:
        r = inputs[1].q
        assert r is not None
        v = fl(v + fl(fl(residual - r.zero_point) * fl(Fraction(r.scale) / Fraction(y.scale))))
    low, high = 0, y.qmax
    if node.attrs["act"] in ("relu", "relu6"):
        low = y.zero_point
    if node.attrs["act"] == "relu6":
        high = min(y.qmax, rne(fl(6 / Fraction(y.scale))) + y.zero_point)
    return clamp(rne(v) + y.zero_point, low, high)


def add(a: int, b: int, qa: QParams, qb: QParams, y: QParams) -> int:
    left = fl(fl(a - qa.zero_point) * fl(Fraction(qa.scale) / Fraction(y.scale)))
    right = fl(fl(b - qb.zero_point) * fl(Fraction(qb.scale) / Fraction(y.scale)))
    return clamp(rne(fl(left + right)) + y.zero_point, 0, y.qmax)


def mul(x: int, gate: int, qx: QParams, qg: QParams, y: QParams) -> int:
    m = fl(fl(fl(Fraction(qx.scale) * Fraction(qg.scale)) / Fraction(y.scale)) * 256)
    factor = clamp(rne(fl(fl(gate - qg.zero_point) * m)), -32768, 32767)
    product = (x - qx.zero_point) * 128 * factor
    return clamp((product + 2**14) // 2**15 + y.zero_point, 0, y.qmax)  # // rounds towards minus infinity


def pool(codes: list[int], x: QParams, y: QParams) -> int:
    total = fl(sum(code - x.zero_point for code in codes))
    scale = fl(fl(Fraction(x.scale) / Fraction(y.scale)) / len(codes))
    return clamp(rne(fl(total * scale)) + y.zero_point, 0, y.qmax)


def largest(
    x: np.ndarray, kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int], index: tuple[int, ...]
) -> float:
    """The largest element of a window, positions outside ignored."""
    rows = range(index[0] * stride[0] - pad[0], index[0] * stride[0] - pad[0] + kernel[0])
    columns = range(index[1] * stride[1] - pad[2], index[1] * stride[1] - pad[2] + kernel[1])
    inside = [(r, c) for r in rows for c in columns if 0 <= r < x.shape[0] and 0 <= c < x.shape[1]]
    return max(x[r, c, index[2]].item() for r, c in inside)
