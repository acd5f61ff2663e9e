"""What does not depend on the image is computed at once: shapes as exporters write them, and weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from subbyte.importers.onnx.values import Call, Constant
from subbyte.importers.rules.arguments import need

#: Elements that a constant may grow to beyond what it was computed from.
MAX_FOLDED = 1 << 24


def fits(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape. Rejected if a constant of it would be too large."""
    need(
        all(n >= 0 for n in shape) and math.prod(shape) <= MAX_FOLDED, f"it makes a constant of {list(shape)}"
    )
    return shape


def _arrays(c: Call) -> list[np.ndarray]:
    return [c.constant(i, "input").array for i in range(len(c.inputs))]


def _elementwise(function: Callable[..., Any]) -> Callable[[Call], Constant]:
    def fold(c: Call) -> Constant:
        arrays = _arrays(c)
        fits(np.broadcast_shapes(*(array.shape for array in arrays)))
        kind = np.result_type(*arrays) if c.node.op not in _COMPARE else np.bool_
        return Constant(np.asarray(function(*arrays)).astype(kind))

    return fold


_COMPARE = ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Not", "And", "Or")


def _divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.dtype.kind in "iu":  # towards zero
        need(bool((y != 0).all()), "it divides by zero")
        return np.asarray(np.sign(x) * np.sign(y) * (abs(x) // abs(y)))
    return np.asarray(x / y)


def _constant(c: Call) -> Constant:
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        value = c.node.attrs.get(name)
        if isinstance(value, Constant):
            return value
        if value is not None:
            return Constant(np.asarray(value, np.float32 if "float" in name else np.int64))
    need(False, "its value is of no kind that is read")
    raise AssertionError


def _constant_of_shape(c: Call) -> Constant:
    shape = fits(tuple(c.constant(0, "shape").array.reshape(-1).tolist()))
    value = c.node.attrs.get("value")
    fill = value.array.reshape(-1)[0] if isinstance(value, Constant) else np.float32(0)
    return Constant(np.full(shape, fill))


def _concat(c: Call) -> Constant:
    return Constant(np.concatenate(_arrays(c), axis=c.integer("axis", 0)))


def _gather(c: Call) -> Constant:
    x, index = c.constant(0, "data").array, c.constant(1, "indices").array
    axis = c.integer("axis", 0)
    need(-x.ndim <= axis < x.ndim and index.dtype.kind in "iu", "its indices do not fit")
    fits((*x.shape[:axis], *index.shape, *x.shape[axis:][1:]))
    return Constant(np.asarray(np.take(x, index, axis=axis)))


def _slice(c: Call) -> Constant:
    x = c.constant(0, "data").array
    starts, ends = (c.constant(i, "range").array.reshape(-1).tolist() for i in (1, 2))
    axes = c.constant(3, "axes").array.reshape(-1).tolist() if c.given(3) else list(range(len(starts)))
    steps = c.constant(4, "steps").array.reshape(-1).tolist() if c.given(4) else [1] * len(starts)
    chosen = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        chosen[axis] = slice(start, None if step < 0 and end <= -(1 << 31) else end, step)
    return Constant(x[tuple(chosen)])


def _range(c: Call) -> Constant:
    start, stop, step = (c.constant(i, "range").array.reshape(-1)[0] for i in range(3))
    need(step != 0, "its step is zero")
    fits((max(0, math.ceil((stop - start) / step)),))
    return Constant(np.arange(start, stop, step))


def _expand(c: Call) -> Constant:
    x, wanted = c.constant(0, "data").array, tuple(c.constant(1, "shape").array.reshape(-1).tolist())
    need(len(wanted) <= 8 and all(n >= 1 for n in wanted), f"it expands to {list(wanted)!r:.80}")
    return Constant(np.broadcast_to(x, fits(np.broadcast_shapes(x.shape, wanted))))


def _reduce(function: Callable[..., Any]) -> Callable[[Call], Constant]:
    def fold(c: Call) -> Constant:
        x = c.constant(0, "data").array
        axes = c.axes(x.ndim)
        result = function(
            x, axis=None if axes is None else tuple(axes), keepdims=bool(c.integer("keepdims", 1))
        )
        return Constant(np.asarray(result).astype(x.dtype))

    return fold


#: Operator to how it is computed where none of its inputs depends on the image.
FOLDS: Mapping[str, Callable[[Call], Constant]] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Concat": _concat,
    "Gather": _gather,
    "Slice": _slice,
    "Range": _range,
    "Expand": _expand,
    "Where": _elementwise(np.where),
    "Add": _elementwise(np.add),
    "Sub": _elementwise(np.subtract),
    "Mul": _elementwise(np.multiply),
    "Div": _elementwise(_divide),
    "Neg": _elementwise(np.negative),
    "Abs": _elementwise(np.abs),
    "Floor": _elementwise(np.floor),
    "Ceil": _elementwise(np.ceil),
    "Sqrt": _elementwise(np.sqrt),
    "Exp": _elementwise(np.exp),
    "Reciprocal": _elementwise(np.reciprocal),
    "Max": _elementwise(lambda *x: np.max(np.broadcast_arrays(*x), axis=0)),
    "Min": _elementwise(lambda *x: np.min(np.broadcast_arrays(*x), axis=0)),
    "Equal": _elementwise(np.equal),
    "Less": _elementwise(np.less),
    "Greater": _elementwise(np.greater),
    "LessOrEqual": _elementwise(np.less_equal),
    "GreaterOrEqual": _elementwise(np.greater_equal),
    "Not": _elementwise(np.logical_not),
    "And": _elementwise(np.logical_and),
    "Or": _elementwise(np.logical_or),
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
}
