"""What rules write into: a growing graph, and operands that are views of its values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from subbyte.importers.rules.builder import Nodes, Rejected
from subbyte.importers.rules.problems import Site
from subbyte.importers.rules.strides import (
    Shape,
    View,
    canonical,
    covers,
    cut_of,
    in_order,
    packed_strides,
    significant,
)
from subbyte.ir.limits import MAX_EXTENT, MAX_KERNEL


@dataclass(frozen=True)
class Operand:
    """A tensor of the network that is imported, with torch's axes: a view on a graph value.

    shape: torch's and ONNX's, batch of 1 first. strides, offset: where its elements lie among the value's,
    which are counted channels last (strides.py); whoever reads the operand decides how the value has to look.
    pad: (top, bottom, left, right) of `fill` that the next sliding window has to add; strides know nothing of
    it. folded: of a flattened map, torch's shape before it was; the strides are those of that. A linear layer
    flattens in the value's own order, everyone else asks for torch's.
    origin: the operator that made the view, if it is one.
    """

    value: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    fill: float = 0.0
    folded: tuple[int, ...] | None = None
    origin: Site | None = None

    @property
    def view(self) -> View:
        """Its strides, before padding and folding."""
        shape = self.folded or self.shape
        if any(self.pad):
            top, bottom, left, right = self.pad
            shape = (*shape[:2], shape[2] - top - bottom, shape[3] - left - right)
        return View(shape, self.strides, self.offset)


def seen(value: str, view: View) -> Operand:
    """The operand that shows a value as `view` does."""
    return Operand(value, view.shape, view.strides, view.offset)


class Builder(Nodes):
    """A graph, and operands that are views of its values."""

    def __init__(self, shape: tuple[int, int, int], containers: frozenset[str]) -> None:
        super().__init__(shape, containers)
        self._made: dict[tuple[object, ...], str] = {}

    def stand_in(self, shape: tuple[int, ...]) -> Operand | None:
        """In place of a result of torch's `shape` that no node can make; None if no value has that shape.

        Lets the operators behind it be looked at. A graph with a stand-in cannot be finished.
        """
        name = self._stand_in(shape)
        return None if name is None else self.made(name, shape)

    def made(self, value: str, shape: Shape) -> Operand:
        """The operand of torch's shape that shows a whole value as [1, C, H, W] shows (H, W, C)."""
        return seen(value, canonical(self.shape(value), shape))

    def last(self, value: str, shape: Shape) -> Operand:
        """The operand of torch's shape whose elements lie as a value's do: channels last."""
        return seen(value, in_order(shape))

    def plain(self, x: Operand) -> Operand:
        """An operand whose value holds its elements and no others, for an operator that treats all alike."""
        if not any(x.pad) and covers(x.view, math.prod(self.shape(x.value))):
            return x
        x = self.settled(x)
        if covers(x.view, math.prod(self.shape(x.value))):
            return x
        size = _size_of(x.shape)
        if len(x.shape) == 4 and x.shape[0] == 1:
            return self.made(self.map(x), x.shape)
        return self.last(self._nodes(x, x.view, size), x.shape)

    def settled(self, x: Operand) -> Operand:
        """The operand with its pending padding added, or flattened in torch's order."""
        if x.folded is not None:
            return self.last(self._nodes(x, x.view, (math.prod(x.shape),)), x.shape)
        if not any(x.pad):
            return x
        if not math.isfinite(x.fill):
            raise Rejected(f"only a sliding window takes padding with {x.fill:g} over", x.origin)
        if max(x.pad) >= MAX_KERNEL:
            raise Rejected(f"at most {MAX_KERNEL - 1} rows or columns are padded at a side, not {max(x.pad)}")
        value = self.map(unpadded_operand(x))
        if x.fill != 0.0:  # the numbers are moved so that it is zero, and back
            value = self.affine(value, np.float32(1.0), np.float32(-x.fill))
        value = self.emit("pad", [value], {"pad": list(x.pad), "mode": "zero"}, name=self.beside("pad"))
        if x.fill != 0.0:
            value = self.affine(value, np.float32(1.0), np.float32(x.fill))
        return self.made(value, x.shape)

    def affine(self, value: str, weight: np.ndarray | np.float32, bias: np.ndarray | np.float32) -> str:
        """weight * value + bias, each one number or one for each channel: a batch_norm."""
        size = self.shape(value)[-1]
        params = {
            "weight": np.array(np.broadcast_to(weight, (size,)), np.float32),
            "bias": np.array(np.broadcast_to(bias, (size,)), np.float32),
            "mean": np.zeros(size, np.float32),
            "var": np.full(size, 1.0 - _EPS, np.float32),
        }
        return self.emit("batch_norm", [value], {"eps": _EPS}, params)

    def map(self, x: Operand) -> str:
        """The operand as a (H, W, C) value."""
        x = self.settled(x)
        shape = self.shape(x.value)
        if len(x.shape) != 4 or x.shape[0] != 1:
            raise Rejected(f"it needs a map, [1, C, H, W], not {list(x.shape)}", x.origin)
        if len(shape) == 1 and x.shape == (1, *shape, 1, 1):
            return self._unflatten(x.value)
        size = (x.shape[2], x.shape[3], x.shape[1])
        return self._nodes(x, x.view.permute((0, 2, 3, 1)), size)

    def rows(self, x: Operand) -> str:
        """The operand as a value whose channels are torch's last axis."""
        x = self.settled(x)
        size = _size_of(x.shape)
        value = self.shape(x.value)
        if x.view.contiguous and covers(x.view, math.prod(value)) and value[-1] == x.shape[-1]:
            return x.value
        return self._nodes(x, x.view, size)

    def reshaped_to(self, x: Operand, shape: Shape) -> Operand:
        """The operand in another of torch's shapes, in torch's order."""
        if x.shape == shape:
            return x
        if any(x.pad):
            x = self.settled(x)
        view = x.view.reshape(shape)
        if view is not None:
            return seen(x.value, view)
        # its elements do not lie so that strides would do
        if shape == (1, x.view.count) and x.view.ndim == 4:
            return replace(x, shape=shape, folded=x.view.shape)
        whole = self.settled(x)
        behind = _joined(whole.view.shape, shape) if len(shape) == 4 and shape[0] == 1 else None
        if behind is not None:  # a map: put channels last at once
            order = [axis for place in (0, 2, 3, 1) for axis in behind[place]]
            size = (shape[2], shape[3], shape[1])
            return self.made(self.ordered(whole, whole.view.permute(order), size), shape)
        flat = (whole.view.count,) if whole.view.count <= MAX_EXTENT else _size_of(shape)
        return self.last(self.ordered(whole, whole.view, flat), shape)

    def ordered(self, x: Operand, view: View, size: Shape) -> str:
        """The elements of a view of the operand's value, in torch's order, as a value of `size`."""
        return self._nodes(self.settled(x), view, size)

    def flat(self, x: Operand) -> str:
        """The operand as a vector; a map's elements then are in (H, W, C) order."""
        x = self.plain(self.settled(x))
        if x.shape != (1, math.prod(x.shape)):
            raise Rejected(f"it needs one vector per image, not {list(x.shape)}", x.origin)
        if len(self.shape(x.value)) == 1:
            return x.value
        if x.value not in self._flat:
            self._flat[x.value] = self.emit("flatten", [x.value], name=self.beside("flatten"))
        return self._flat[x.value]

    def vector(self, x: Operand) -> str:
        """The operand as a vector in torch's order."""
        x = self.plain(self.settled(x))
        if x.shape != (1, math.prod(x.shape)):
            raise Rejected(f"it needs one vector per image, not {list(x.shape)}", x.origin)
        if x.view.contiguous:
            return self.flat(x)
        return self._nodes(x, x.view, (x.shape[1],))

    def joined(self, parts: Sequence[Operand], axis: int, shape: Shape) -> Operand:
        """Operands one behind the other along an axis."""
        if axis == 1 and len(shape) in (2, 4) and shape[0] == 1:
            values = [self.map(x) if len(shape) == 4 else self.vector(x) for x in parts]
            return self.made(self.emit("concat", values), shape)
        moved = [self.settled(x).view.movedim(axis, -1) for x in parts]
        rows = math.prod(moved[0].shape[:-1])
        values = [
            self.ordered(self.settled(x), view, (1, rows, view.shape[-1]))
            for x, view in zip(parts, moved, strict=True)
        ]
        whole = self.last(self.emit("concat", values), (*moved[0].shape[:-1], shape[axis]))
        return seen(whole.value, whole.view.movedim(-1, axis))

    def sliceable(self, x: Operand) -> bool:
        """Whether the operand's elements are a slice of its value."""
        shape = self.shape(x.value)
        return cut_of(x.view, shape if len(shape) == 3 else (1, 1, *shape)) is not None

    def _nodes(self, x: Operand, view: View, size: Shape) -> str:
        """The value of `size` whose elements, in their order, are those of a view of the operand's value."""
        key = (x.value, view, size)
        if key not in self._made:
            self._made[key] = self._make(x, view, size)
        return self._made[key]

    def _make(self, x: Operand, view: View, size: Shape) -> str:
        value, shape = x.value, self.shape(x.value)
        if not covers(view, math.prod(shape)):
            value, view = self._cut(x, value, view)
            shape = self.shape(value)
        axes = [(axis, extent, stride) for axis, extent, stride in significant(view) if stride > 0]
        repeated = [axis for axis in range(view.ndim) if view.shape[axis] > 1 and view.strides[axis] == 0]
        dims = [extent for _, extent, _ in axes] or [1]
        perm = sorted(range(len(axes)), key=lambda i: axes[i][0]) or [0]
        bare = [1 if axis in repeated else view.shape[axis] for axis in range(view.ndim)]
        if not repeated:
            return self._rearranged(x, value, dims, perm, size)
        kept = [bare[axis] for axis in range(view.ndim) if view.shape[axis] > 1]
        if len(size) == 3 and [n for n in size if n > 1] == [n for n in view.shape if n > 1]:
            positions = iter(kept)
            value = self._rearranged(
                x, value, dims, perm, tuple(1 if n == 1 else next(positions) for n in size)
            )
            return self.emit("expand", [value], {"size": list(size)}, name=self.beside("expand"))
        for axis in repeated:  # one after the other, between what lies before and behind
            sides, place = _sides(bare[:axis], bare[axis:])
            if axis == repeated[0]:
                value = self._rearranged(x, value, dims, perm, (*sides,))
            else:
                value = self.reshaped(value, (*sides,))
            sides[place] = bare[axis] = view.shape[axis]
            value = self.emit("expand", [value], {"size": sides}, name=self.beside("expand"))
        return self.reshaped(value, size)

    def _cut(self, x: Operand, value: str, view: View) -> tuple[str, View]:
        shape = self.shape(value)
        if len(shape) == 1:
            value, shape = self.reshaped(value, (1, 1, *shape)), (1, 1, *shape)
        cut = cut_of(view, shape)
        if cut is None:
            raise Rejected(f"it reads a part of a tensor that is no slice of it: {list(x.shape)}", x.origin)
        if not cut.whole(shape):
            attrs = {"begin": list(cut.begin), "end": list(cut.end), "step": list(cut.step)}
            value = self.emit("slice", [value], attrs, name=self.beside("slice"))
        return value, View(view.shape, tuple(packed_strides(view)))

    def _rearranged(
        self, x: Operand | None, value: str, dims: list[int], perm: list[int], size: Shape
    ) -> str:
        if len(size) not in (1, 3) or len(dims) > 8:
            raise Rejected(f"it mixes too many axes: {dims}", x.origin if x else None)
        in_order = perm == sorted(perm)
        if in_order and self.shape(value) == size:
            return value
        if in_order and len(size) == 1:
            return self.emit("flatten", [value], name=self.beside("flatten"))
        attrs = {"dims": dims, "perm": perm, "size": list(size)}
        return self.emit("rearrange", [value], attrs, name=self.beside("rearrange"))

    def _unflatten(self, value: str) -> str:
        """The (1, 1, C) map behind a vector, where layers on vectors become layers on 1x1 maps."""
        if value in self._maps:
            return self._maps[value]
        node = self.producers[value]
        if node.op == "flatten":
            result = node.inputs[0]
            if self.shape(result)[:2] != (1, 1):
                result = self.reshaped(value, (1, 1, *self.shape(value)))
        elif node.op not in _ALSO_OF_MAPS:
            result = self.reshaped(value, (1, 1, *self.shape(value)))
        else:
            result = self.on_maps(node, [self._unflatten(name) for name in node.inputs])
        self._maps[value] = result
        return result


def _joined(old: Shape, new: Shape) -> list[list[int]] | None:
    """The axes of the old shape that each axis of the new one joins; None if one would have to be cut."""
    rest, found = list(range(len(old))), []
    for extent in new:
        axes: list[int] = []
        while rest and math.prod(old[axis] for axis in axes) < extent:
            axes.append(rest.pop(0))
        if math.prod(old[axis] for axis in axes) != extent:
            return None
        found.append(axes)
    found[-1] += rest  # of one position each
    return found


#: Added to the variance 1 - EPS it gives exactly 1, also in float32.
_EPS = 2.0**-10

#: What layers on vectors become on 1x1 maps.
_ALSO_OF_MAPS = ("linear", "activation", "add", "batch_norm", "quantize", "dequantize")


def _sides(before: list[int], behind: list[int]) -> tuple[list[int], int]:
    """Three extents with a one between what lies before an axis and behind it, and its place; or, where
    nothing lies before it and too much behind, in front of that in two parts."""
    if math.prod(before) > 1 or math.prod(behind) <= MAX_EXTENT:
        return [math.prod(before), 1, math.prod(behind)], 1
    parts = [(math.prod(behind[:i]), math.prod(behind[i:])) for i in range(len(behind) + 1)]
    return [1, *min(parts, key=max)], 0


def _size_of(shape: Shape) -> Shape:
    """Three extents with torch's last axis as channels: the axis before it as columns, unless there are too
    many rows then."""
    if len(shape) < 3:
        return (1,) * (3 - len(shape)) + tuple(shape)
    rows, columns = math.prod(shape[:-2]), shape[-2]
    if rows > MAX_EXTENT:
        places = rows * columns
        columns = next(n for n in range(math.isqrt(places), 0, -1) if places % n == 0)
        rows = places // columns
    return (rows, columns, shape[-1])


def unpadded_operand(x: Operand) -> Operand:
    """x without its pending padding."""
    if not any(x.pad):
        return x
    top, bottom, left, right = x.pad
    n, c, h, w = x.shape
    return replace(x, shape=(n, c, h - top - bottom, w - left - right), pad=(0, 0, 0, 0))
