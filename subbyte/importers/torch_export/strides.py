"""Views of values, as torch has them: extents and strides over a value's elements, counted channels last.

A permutation, a part or a repetition of a map costs nothing until something reads it in another order. Then
the nodes that make it come from its strides: a slice, a rearrange, an expand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Cut:
    """The part of a value that a view shows: begin, end and step along rows, columns and channels."""

    begin: Shape
    end: Shape
    step: Shape

    def whole(self, shape: Shape) -> bool:
        """Whether it is all of a value of this shape."""
        return self.begin == (0, 0, 0) and self.end == shape and self.step == (1, 1, 1)


def canonical(value: Shape, shape: Shape) -> Tensor:
    """torch's tensor of `shape` that shows a value: as [1, C, H, W] shows (H, W, C), or a view of that."""
    if len(value) == 3:
        height, width, channels = value
        strides = (math.prod(value), 1, width * channels, channels)
        return view_of((1, channels, height, width), strides, 0).view(shape)
    return view_of((1, *value), (value[0], 1), 0).view(shape)


def view_of(shape: Sequence[int], strides: Sequence[int], offset: int) -> Tensor:
    """A tensor without memory that has these extents and strides."""
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    base = torch.empty(last + 1, device="meta")
    return base.as_strided(tuple(shape), tuple(strides), offset)


def significant(view: Tensor) -> list[tuple[int, int, int]]:
    """(axis, extent, stride) of the axes of more than one position, the largest stride first."""
    axes = [(axis, view.shape[axis], view.stride(axis)) for axis in range(view.ndim) if view.shape[axis] > 1]
    return sorted(axes, key=lambda a: -a[2])


def covers(view: Tensor, elements: int) -> bool:
    """Whether every element of a value is shown exactly once."""
    if view.numel() != elements or view.storage_offset() != 0:
        return False
    expected = 1
    for _, extent, stride in reversed(significant(view)):
        if stride != expected:
            return False
        expected *= extent
    return True


def cut_of(view: Tensor, value: Shape) -> Cut | None:
    """The slice of a (H, W, C) value whose elements a view shows, each once or repeated along whole axes.

    None where no slice has just these elements.
    """
    height, width, channels = value
    units, extents = (width * channels, channels, 1), (height, width, channels)
    rest = view.storage_offset()
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


def packed_strides(view: Tensor) -> list[int]:
    """The strides of a view over the elements that it shows, once they lie side by side."""
    strides, expected = [0] * view.ndim, 1
    for axis, extent, stride in reversed(significant(view)):
        if stride > 0:
            strides[axis], expected = expected, expected * extent
    return strides
