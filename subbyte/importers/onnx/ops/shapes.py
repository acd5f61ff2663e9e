"""Operators that keep every element: changes of shape, of order, of type; and what asks for a shape."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from subbyte.importers.onnx.fold import fits
from subbyte.importers.onnx.rules import elementwise, layers
from subbyte.importers.onnx.values import Argument, Call, Constant, Rearranged, Row
from subbyte.importers.rules.arguments import Shape, need
from subbyte.importers.rules.builder import Operand

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
    if isinstance(x, Rearranged):  # elements in the order of the graph's own maps
        return _flattened(c, x, shape)
    return elementwise.reshape(c.b, {"self": x}, shape)


def _flattened(c: Call, x: Rearranged, shape: Shape) -> Operand:
    if shape == x.shape:
        return x
    need(shape[:1] == (1,), "it mixes the batch with other dimensions")
    return Operand(c.b.emit("flatten", [x.value], name=f"{c.node.name}.flatten"), shape)


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
    shape = tuple(x.shape[i] for i in order)
    if isinstance(x, Rearranged):
        need(order in ([0, 1, 2, 3], [0, 3, 1, 2]), "dimensions of a map are in another order than usual")
        return x if order[1] == 1 else Operand(x.value, shape)
    moved = [i for i in order if x.shape[i] != 1]
    if moved == sorted(moved):
        return elementwise.reshape(c.b, {"self": x}, shape)
    if order == [0, 2, 3, 1]:
        return Rearranged(c.b.map(x), shape)
    need(order[0] == 0, "the batch cannot change its place")
    return Operand(c.b.turned(c.b.plain(x), x.shape[1:], tuple(axis - 1 for axis in order[1:])), shape)


def _expand(c: Call) -> Argument:
    x = c.operand()
    wanted = tuple(int(n) for n in c.constant(1, "shape").array.reshape(-1).tolist())
    need(len(wanted) <= 8 and all(n >= 1 for n in wanted), f"it expands to {list(wanted)!r:.80}")
    shape = np.broadcast_shapes(x.shape, wanted)
    return elementwise.expand(c.b, {"self": x}, shape)


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
    x = c.constant(0, "data").array
    times = c.constant(1, "repeats").array.reshape(-1).tolist()
    need(len(times) == x.ndim and all(n >= 0 for n in times), "its repeats do not fit")
    fits(tuple(n * t for n, t in zip(x.shape, times, strict=True)))
    return Constant(np.tile(x, times))


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
    return layers.pad(
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
