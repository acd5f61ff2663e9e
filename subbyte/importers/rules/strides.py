"""Views of values: extents and strides over a value's elements, counted channels last.

A permutation, a part or a repetition of a map costs nothing until something reads it in another order. Then
the nodes that make it come from its strides: a slice, a rearrange, an expand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True)
class View:
    """An array without memory: where each of its elements lies among those of a value.

    Its methods are those of torch's tensors and make views of the same elements. A stride of 0 repeats;
    an axis of one position has none.
    """

    shape: Shape
    strides: Shape
    offset: int = 0

    def __post_init__(self) -> None:
        strides = (0 if n == 1 else s for n, s in zip(self.shape, self.strides, strict=True))
        object.__setattr__(self, "strides", tuple(strides))

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self.shape)

    @property
    def count(self) -> int:
        """How many elements are shown."""
        return math.prod(self.shape)

    @property
    def contiguous(self) -> bool:
        """Whether the elements follow each other in the view's order."""
        packed = _packed(self.shape)
        return all(n == 1 or s == p for n, s, p in zip(self.shape, self.strides, packed, strict=True))

    def permute(self, order: Sequence[int]) -> View:
        """The axes in another order; negative ones count from the last."""
        axes = [axis % self.ndim for axis in order]
        return View(tuple(self.shape[i] for i in axes), tuple(self.strides[i] for i in axes), self.offset)

    def transpose(self, one: int, other: int) -> View:
        """Two axes in each other's place."""
        order = list(range(self.ndim))
        order[one], order[other] = order[other], order[one]
        return self.permute(order)

    def movedim(self, source: int | Sequence[int], destination: int | Sequence[int]) -> View:
        """Axes at other places, the rest in their order."""
        moved = [source] if isinstance(source, int) else list(source)
        places = [destination] if isinstance(destination, int) else list(destination)
        goal = {place % self.ndim: axis % self.ndim for axis, place in zip(moved, places, strict=True)}
        rest = iter(axis for axis in range(self.ndim) if axis not in goal.values())
        return self.permute([goal[i] if i in goal else next(rest) for i in range(self.ndim)])

    def cut(self, axis: int, positions: range) -> View:
        """The positions along an axis, ascending."""
        axis %= self.ndim
        shape, strides = list(self.shape), list(self.strides)
        shape[axis], strides[axis] = len(positions), strides[axis] * positions.step
        return View(tuple(shape), tuple(strides), self.offset + positions.start * self.strides[axis])

    def select(self, axis: int, index: int) -> View:
        """One position, without its axis."""
        axis %= self.ndim
        one = self.cut(axis, range(index % self.shape[axis], index % self.shape[axis] + 1))
        return View(
            one.shape[:axis] + one.shape[axis + 1 :], one.strides[:axis] + one.strides[axis + 1 :], one.offset
        )

    def expand(self, shape: Sequence[int]) -> View:
        """Axes of one position repeated, and new ones before them; -1 keeps an extent."""
        new = len(shape) - self.ndim
        old = (1,) * new + self.shape
        wanted = tuple(n if m == -1 else m for n, m in zip(old, shape, strict=True))
        if any(n not in (1, m) for n, m in zip(old, wanted, strict=True)):
            raise ValueError(f"{list(self.shape)} cannot become {list(shape)}")
        return View(wanted, (0,) * new + self.strides, self.offset)

    def unsqueeze(self, axis: int) -> View:
        """With a new axis of one position."""
        axis %= self.ndim + 1
        return View(
            (*self.shape[:axis], 1, *self.shape[axis:]),
            (*self.strides[:axis], 0, *self.strides[axis:]),
            self.offset,
        )

    def squeeze(self, axis: int) -> View:
        """Without an axis of one position."""
        return self.select(axis, 0)

    def reshape(self, shape: Sequence[int]) -> View | None:
        """The elements, in their order, in another shape; None where strides cannot say that."""
        new = list(shape)
        strides = [0] * len(new)
        at = len(new) - 1
        for extent, stride in reversed(self._runs()):  # each run has to be cut into whole axes
            left = extent
            while left > 1:
                while at >= 0 and new[at] == 1:
                    at -= 1
                if at < 0 or left % new[at]:
                    return None
                strides[at] = stride
                stride *= new[at]
                left //= new[at]
                at -= 1
        if math.prod(new) != self.count:
            return None
        return View(tuple(new), tuple(strides), self.offset)

    def _runs(self) -> list[tuple[int, int]]:
        """(extent, stride) of neighbouring axes joined where one stride walks through them."""
        runs: list[tuple[int, int]] = []
        for extent, stride in zip(self.shape, self.strides, strict=True):
            if extent == 1:
                continue
            if runs and runs[-1][1] == stride * extent:
                runs[-1] = (runs[-1][0] * extent, stride)
            else:
                runs.append((extent, stride))
        return runs


def _packed(shape: Sequence[int]) -> list[int]:
    """The strides of an array in its own order."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return strides


def in_order(shape: Sequence[int]) -> View:
    """The array of all of a value's elements, in their order."""
    return View(tuple(shape), tuple(_packed(shape)))


def canonical(value: Shape, shape: Shape) -> View:
    """torch's tensor of `shape` that shows a value: as [1, C, H, W] shows (H, W, C), or a view of that.

    Raises ValueError if there is none.
    """
    if len(value) == 3:
        height, width, channels = value
        shown = View((1, channels, height, width), (0, 1, width * channels, channels))
    else:
        shown = View((1, *value), (0, 1))
    view = shown.reshape(shape)
    if view is None:
        raise ValueError(f"a value {list(value)} is no {list(shape)}")
    return view


@dataclass(frozen=True)
class Cut:
    """The part of a value that a view shows: begin, end and step along rows, columns and channels."""

    begin: Shape
    end: Shape
    step: Shape

    def whole(self, shape: Shape) -> bool:
        """Whether it is all of a value of this shape."""
        return self.begin == (0, 0, 0) and self.end == shape and self.step == (1, 1, 1)


def significant(view: View) -> list[tuple[int, int, int]]:
    """(axis, extent, stride) of the axes of more than one position, the largest stride first."""
    axes = [(axis, view.shape[axis], view.strides[axis]) for axis in range(view.ndim) if view.shape[axis] > 1]
    return sorted(axes, key=lambda a: -a[2])


def covers(view: View, elements: int) -> bool:
    """Whether every element of a value is shown exactly once."""
    if view.count != elements or view.offset != 0:
        return False
    expected = 1
    for _, extent, stride in reversed(significant(view)):
        if stride != expected:
            return False
        expected *= extent
    return True


def cut_of(view: View, value: Shape) -> Cut | None:
    """The slice of a (H, W, C) value whose elements a view shows, each once or repeated along whole axes.

    None where no slice has just these elements.
    """
    height, width, channels = value
    units, extents = (width * channels, channels, 1), (height, width, channels)
    rest = view.offset
    begin = []
    for unit in units:
        begin.append(rest // unit)
        rest %= unit
    counts, steps, expected = [1, 1, 1], [0, 0, 0], [0, 0, 0]
    for _, extent, stride in reversed(significant(view)):
        if stride == 0:
            continue
        axis = next(
            (
                i
                for i, (unit, n) in enumerate(zip(units, extents, strict=True))
                if n > 1 and stride % unit == 0
            ),
            None,
        )
        if axis is None:
            return None
        if counts[axis] == 1:
            steps[axis] = stride // units[axis]
        elif stride != expected[axis]:
            return None
        counts[axis] *= extent
        expected[axis] = extent * stride
    # rows and columns, or columns and channels, that are walked through together are whole
    for axis in (2, 1):
        while counts[axis] > extents[axis]:
            if steps[axis] != 1 or begin[axis] != 0 or counts[axis] % extents[axis]:
                return None
            over, counts[axis] = counts[axis] // extents[axis], extents[axis]
            if counts[axis - 1] > 1 and steps[axis - 1] != over:
                return None
            counts[axis - 1], steps[axis - 1] = counts[axis - 1] * over, 1
    steps = [max(1, step) for step in steps]
    end = [b + (c - 1) * s + 1 for b, c, s in zip(begin, counts, steps, strict=True)]
    if any(e > n for e, n in zip(end, extents, strict=True)):
        return None
    return Cut(tuple(begin), tuple(end), tuple(steps))


def packed_strides(view: View) -> list[int]:
    """The strides of a view over the elements that it shows, once they lie side by side."""
    strides, expected = [0] * view.ndim, 1
    for axis, extent, stride in reversed(significant(view)):
        if stride > 0:
            strides[axis], expected = expected, expected * extent
    return strides
