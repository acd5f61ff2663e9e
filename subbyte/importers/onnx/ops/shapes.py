"""Operators that keep every element: changes of shape, of order, of type; and what asks for a shape."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from subbyte.importers.onnx.fold import fits
from subbyte.importers.onnx.values import Argument, Call, Constant, Row
from subbyte.importers.rules import moves
from subbyte.importers.rules.arguments import need
from subbyte.importers.rules.operands import seen
from subbyte.importers.rules.strides import Shape

#: Numbers of TensorProto.DataType: what values of the image may be cast to, and constants.
_FLOATS = {1, 10, 11, 16}
_TYPES = {
    1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_,
    10: np.float32, 11: np.float64, 16: np.float32,
}  # fmt: skip


def _view(c: Call, shape_of: Callable[[Shape], Shape]) -> Argument:
    """The first argument in another shape, its elements in their order."""
    x = c.argument(0)
    if isinstance(x, Constant):
        shape = shape_of(x.array.shape)
        need(
            math.prod(shape) == x.array.size and all(n >= 0 for n in shape), f"it cannot become {list(shape)}"
        )
        return x.moved(lambda array: array.reshape(shape))
    shape = shape_of(x.shape)
    need(math.prod(shape) == math.prod(x.shape), f"{list(x.shape)} cannot become {list(shape)}")
    return c.b.reshaped_to(x, shape)


def _reshape(c: Call) -> Argument:
    wanted = [int(n) for n in c.constant(1, "shape").array.reshape(-1).tolist()]
    keeps = not c.integer("allowzero", 0)

    def shape(old: Shape) -> Shape:
        need(
            len(wanted) <= 8 and all(n >= -1 for n in wanted) and wanted.count(-1) <= 1,
            f"its shape is {wanted}",
        )
        new = [old[i] if n == 0 and keeps and i < len(old) else n for i, n in enumerate(wanted)]
        known = math.prod(n for n in new if n != -1)
        return tuple(math.prod(old) // max(1, known) if n == -1 else n for n in new)

    return _view(c, shape)


def _flatten(c: Call) -> Argument:
    axis = c.integer("axis", 1)

    def shape(old: Shape) -> Shape:
        at = axis % (len(old) + 1) if axis < 0 else axis
        return math.prod(old[:at]), math.prod(old[at:])

    return _view(c, shape)


def _squeeze(c: Call) -> Argument:
    def shape(old: Shape) -> Shape:
        axes = c.axes(len(old))
        chosen = [i for i, n in enumerate(old) if n == 1] if axes is None else axes
        need(all(old[i] == 1 for i in chosen), f"it drops a dimension of {list(old)} that is not 1")
        return tuple(n for i, n in enumerate(old) if i not in chosen)

    return _view(c, shape)


def _unsqueeze(c: Call) -> Argument:
    def shape(old: Shape) -> Shape:
        given = c.given(1)
        count = len(c.integers("axes", [])) if given is None else c.constant(1, "axes").array.size
        need(count <= 8, "it adds too many dimensions")
        axes, rest = c.axes(len(old) + count), list(old)
        for axis in axes or []:
            rest.insert(axis, 1)
        return tuple(rest)

    return _view(c, shape)


def _transpose(c: Call) -> Argument:
    x = c.argument(0)
    rank = x.array.ndim if isinstance(x, Constant) else len(x.shape)
    order = c.integers("perm", list(reversed(range(rank))), rank)
    need(sorted(order) == list(range(rank)), f"its order is {order!r:.80}")
    if isinstance(x, Constant):
        return x.moved(lambda array: array.transpose(order))
    x = c.b.settled(x)
    return seen(x.value, x.view.permute(order))


def _expand(c: Call) -> Argument:
    x = c.operand()
    wanted = tuple(int(n) for n in c.constant(1, "shape").array.reshape(-1).tolist())
    need(len(wanted) <= 8 and all(n >= 1 for n in wanted), f"it expands to {list(wanted)!r:.80}")
    x = c.b.settled(x)
    return seen(x.value, x.view.expand(np.broadcast_shapes(x.shape, wanted)))


def _same(c: Call) -> Argument:
    return c.argument(0)


def _cast(c: Call) -> Argument:
    x, to = c.argument(0), c.integer("to", 1)
    if not isinstance(x, Constant):
        need(to in _FLOATS, f"values of the image stay floating point, not type {to}")
        return x
    need(to in _TYPES, f"its type {to} is not known")
    if x.codes is not None and to in _FLOATS:
        return x
    return Constant(x.array.astype(_TYPES[to]))


def _shape(c: Call) -> Argument:
    x = c.argument(0)
    shape = x.array.shape if isinstance(x, Constant) else x.shape
    start, end = c.integer("start", 0), c.integer("end", len(shape))
    return Constant(np.array(shape[slice(start, end)], np.int64))


def _size(c: Call) -> Argument:
    x = c.argument(0)
    return Constant(np.array(x.array.size if isinstance(x, Constant) else math.prod(x.shape), np.int64))


def _dropout(c: Call) -> Argument:
    training = c.given(2)
    need(not (isinstance(training, Constant) and training.array.any()), "it is in training mode")
    return c.argument(0)


def _tile(c: Call) -> Argument:
    x = c.argument(0)
    times = [int(n) for n in c.constant(1, "repeats").array.reshape(-1).tolist()]
    old = x.array.shape if isinstance(x, Constant) else x.shape
    need(len(times) == len(old) and all(n >= 0 for n in times), "its repeats do not fit")
    shape = fits(tuple(n * t for n, t in zip(old, times, strict=True)))
    if isinstance(x, Constant):
        return Constant(np.tile(x.array, times))
    return moves.repeat(c.b, {"self": x, "repeats": times}, shape)


def _pad(c: Call) -> Argument:
    """torch's rule takes the last dimension first."""
    x = c.operand()
    rank = len(x.shape)
    sides = [int(n) for n in c.constant(1, "pads").array.reshape(-1).tolist()]
    axes = list(range(rank))
    if c.given(3) is not None:
        axes = [int(n) % rank for n in c.constant(3, "axes").array.reshape(-1).tolist()]
    need(len(sides) == 2 * len(axes), f"its pads are {sides!r:.80}")
    ends = {axis: (sides[i], sides[i + len(axes)]) for i, axis in enumerate(axes)}
    ordered = [n for axis in reversed(range(rank)) for n in ends.get(axis, (0, 0))]
    value = c.given(2)
    fill = float(value.array.reshape(-1)[0]) if isinstance(value, Constant) and value.array.size else 0.0
    shape = tuple(n + sum(ends.get(axis, (0, 0))) for axis, n in enumerate(x.shape))
    return moves.pad(
        c.b, {"self": x, "pad": ordered, "value": fill, "mode": c.text("mode", "constant")}, shape
    )


ROWS: dict[str, Row] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Expand": _expand,
    "Identity": _same,
    "Dropout": _dropout,
    "Cast": _cast,
    "Shape": _shape,
    "Size": _size,
    "Tile": _tile,
    "Pad": _pad,
}
