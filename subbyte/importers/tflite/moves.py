"""Rules for operators that take parts of maps, put elements in another order, or change sizes of maps."""

from __future__ import annotations

import math

from subbyte.importers.tflite.builder import Operand
from subbyte.importers.tflite.call import Call, Rule, Shape, need
from subbyte.ir.limits import MAX_KERNEL


def _map(c: Call, x: Operand, what: str = "it") -> str:
    need(len(x.shape) == 4, f"{what} needs a map [1, H, W, C], not {list(x.shape)}")
    return c.b.map(x)


def _out(c: Call, value: str) -> Operand:
    return Operand(value, c.b.outside(c.b.shape(value)))


def _kept(c: Call, value: str) -> str:
    """The value on the grid that the file gives the result."""
    return c.b.on(value, c.q)


def transpose(c: Call) -> Operand:
    """Of any number of axes; the batch stays where it is."""
    x, order = c.operand(), c.ints(1, "order")
    rank = len(x.shape)
    need(sorted(order) == list(range(rank)) and order[0] == 0, f"its order is {order}")
    shape = tuple(x.shape[axis] for axis in order)
    size = shape[1:] if rank == 4 else (math.prod(shape),)
    attrs = {"dims": list(x.shape[1:]) or [1], "perm": [a - 1 for a in order[1:]] or [0], "size": list(size)}
    need(len(attrs["dims"]) <= 8, f"it turns {rank} axes")
    return Operand(_kept(c, c.b.emit("rearrange", [c.b.plain(x)], attrs)), shape)


def depth_to_space(c: Call) -> Operand:
    """Channels (row, column, channel) of a block become its positions."""
    x, block = c.operand(), c.option(0)
    value = _map(c, x)
    height, width, channels = c.b.shape(value)
    need(block >= 1 and channels % block**2 == 0, f"{channels} channels do not fill blocks of {block}")
    attrs = {
        "dims": [height, width, block, block, channels // block**2],
        "perm": [0, 2, 1, 3, 4],
        "size": [height * block, width * block, channels // block**2],
    }
    return _out(c, _kept(c, c.b.emit("rearrange", [value], attrs)))


def space_to_depth(c: Call) -> Operand:
    x, block = c.operand(), c.option(0)
    value = _map(c, x)
    height, width, channels = c.b.shape(value)
    need(block >= 1 and height % block == width % block == 0, f"{height} x {width} are no blocks of {block}")
    attrs = {
        "dims": [height // block, block, width // block, block, channels],
        "perm": [0, 2, 1, 3, 4],
        "size": [height // block, width // block, channels * block**2],
    }
    return _out(c, _kept(c, c.b.emit("rearrange", [value], attrs)))


def _cut(c: Call, x: Operand, begin: Shape, end: Shape, step: Shape) -> Operand:
    """Of each of [1, H, W, C], positions from begin to before end."""
    value = _map(c, x)
    for first, last, by, extent in zip(begin, end, step, x.shape, strict=True):
        need(0 <= first < last <= extent and by >= 1, f"it takes {first}..{last} of {extent} positions")
    need(begin[0] == 0, "it leaves the image out")
    if begin == (0, 0, 0, 0) and end == x.shape and step == (1, 1, 1, 1):
        return _out(c, _kept(c, value))
    attrs = {"begin": list(begin[1:]), "end": list(end[1:]), "step": list(step[1:])}
    return _out(c, _kept(c, c.b.emit("slice", [value], attrs)))


def slice_(c: Call) -> Operand:
    x, begin, sizes = c.operand(), c.ints(1, "begin"), c.ints(2, "size")
    need(len(begin) == len(sizes) == len(x.shape) == 4, f"only of a map [1, H, W, C], not {list(x.shape)}")
    end = [
        extent if size == -1 else first + size
        for first, size, extent in zip(begin, sizes, x.shape, strict=True)
    ]
    return _cut(c, x, tuple(begin), tuple(end), (1, 1, 1, 1))


def strided_slice(c: Call) -> Operand:
    """With forward steps, and no axis added or dropped."""
    x, step = c.operand(), c.ints(3, "steps")
    bounds = [c.ints(1, "begin"), c.ints(2, "end")]
    need(
        all(len(n) == 4 for n in (*bounds, step, x.shape)), f"only of a map [1, H, W, C], not {list(x.shape)}"
    )
    need(not any(c.option(field) for field in (2, 3, 4)), "it adds or drops axes")
    begin, end = (
        tuple(
            (extent if side else 0)
            if c.option(side) >> axis & 1
            else min(max(n + extent if n < 0 else n, 0), extent)
            for axis, (n, extent) in enumerate(zip(bounds[side], x.shape, strict=True))
        )
        for side in (0, 1)
    )
    return _cut(c, x, begin, end, tuple(step))


def split(c: Call) -> tuple[Operand, ...]:
    """Into equal parts."""
    x, axes = c.operand(1), c.ints(0, "axis")
    count = len(c.operator.outputs)
    need(len(axes) == 1 and len(x.shape) == 4, f"only of a map [1, H, W, C], not {list(x.shape)}")
    extent = x.shape[axes[0] % 4]
    need(extent % count == 0, f"{extent} positions are no {count} equal parts")
    return _parts(c, x, axes[0] % 4, [extent // count] * count)


def split_v(c: Call) -> tuple[Operand, ...]:
    """Into parts of the sizes of its second input."""
    x, sizes, axes = c.operand(), c.ints(1, "sizes"), c.ints(2, "axis")
    need(len(axes) == 1 and len(x.shape) == 4, f"only of a map [1, H, W, C], not {list(x.shape)}")
    need(len(sizes) == len(c.operator.outputs), "its sizes are not as many as its results")
    extent = x.shape[axes[0] % 4]
    rest = extent - sum(n for n in sizes if n != -1)
    sizes = [rest if n == -1 else n for n in sizes]
    need(sum(sizes) == extent, f"{extent} positions cannot be split into {sizes}")
    return _parts(c, x, axes[0] % 4, sizes)


def _parts(c: Call, x: Operand, axis: int, sizes: list[int]) -> tuple[Operand, ...]:
    parts, first = [], 0
    for size in sizes:
        begin, end = [0, 0, 0, 0], list(x.shape)
        begin[axis], end[axis] = first, first + size
        parts.append(_cut(c, x, tuple(begin), tuple(end), (1, 1, 1, 1)))
        first += size
    return tuple(parts)


def resize(op: str, align: int, centers: int) -> Rule:
    """align, centers: numbers of the options `align_corners` and `half_pixel_centers`."""

    def rule(c: Call) -> Operand:
        size = c.ints(1, "size")
        need(len(size) == 2 and min(size) >= 1, f"its size is {size}")
        corners, half = c.option(align, "b"), c.option(centers, "b")
        need(not (corners and half), "it aligns both corners and centers")
        attrs = {"size": size, "mode": "align_corners" if corners else "half_pixel" if half else "asymmetric"}
        value = _map(c, c.operand())
        if op == "resize_nearest":
            return _out(c, _kept(c, c.b.emit(op, [value], attrs)))
        return _out(c, c.emit(op, [value], attrs=attrs))

    return rule


def pad_channels(c: Call, x: Operand, before: int, after: int) -> Operand:
    """Zeros beside the channels, which are columns while they are added."""
    value = _map(c, x)
    height, width, channels = c.b.shape(value)
    value = c.b.reshaped(value, (height * width, channels, 1))
    while before or after:
        left, right = min(before, MAX_KERNEL - 1), min(after, MAX_KERNEL - 1)
        value = c.b.emit("pad", [value], {"pad": [0, 0, left, right], "mode": "zero"})
        before, after = before - left, after - right
    return _out(c, _kept(c, c.b.reshaped(value, (height, width, c.b.shape(value)[1]))))


def mirror_pad(c: Call) -> Operand:
    """Without the outermost positions; the mode that repeats them is not known."""
    x, amounts = c.operand(), c.ints(1, "list of amounts")
    need(len(x.shape) == 4 and len(amounts) == 8, f"it must pad a map, not {list(x.shape)}")
    need(c.option(0, "b") == 0, "only of the mode REFLECT")
    need(min(amounts) >= 0 and amounts[:2] == amounts[6:] == [0, 0], "only of height and width")
    attrs = {"pad": amounts[2:6], "mode": "reflect"}
    return _out(c, _kept(c, c.b.emit("pad", [c.b.map(x)], attrs)))
