"""Rules for pooling, reductions and other sizes of maps."""

from __future__ import annotations

import math
from typing import Any

from subbyte.importers.rules import elementwise
from subbyte.importers.rules.arguments import (
    Arguments,
    Rule,
    Shape,
    need,
    operand,
    pair,
    size_text,
    window_pads,
)
from subbyte.importers.rules.operands import Builder, Operand, seen, unpadded_operand
from subbyte.importers.rules.strides import covers, significant
from subbyte.ir.limits import MAX_EXTENT, MAX_KERNEL


def channelwise(rule: Rule) -> Rule:
    """A rule for what every channel of a map goes through alone, for batches too: their channels in a row.

    Windows of an image, and heads, come as batches.
    """

    def batched(b: Builder, a: Arguments, shape: Shape) -> Operand:
        name = "self" if "self" in a else "input"
        x = operand(a[name])
        if len(x.shape) != 4 or x.shape[0] == 1:
            return rule(b, a, shape)
        maps = b.reshaped_to(x, (1, x.shape[0] * x.shape[1], *x.shape[2:]))
        made = rule(b, {**a, name: maps}, (1, shape[0] * shape[1], *shape[2:]))
        return b.reshaped_to(made, shape)

    return batched


@channelwise
def max_pool2d(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = operand(a["self"])
    need(pair(a["dilation"]) == [1, 1], f"dilation must be 1, not {size_text(a['dilation'])}")
    if x.fill != -math.inf:
        x = b.settled(x)
    kernel = pair(a["kernel_size"])
    stride = pair(a["stride"]) if a["stride"] else kernel
    pads, value = window_pads(a["padding"], x.pad, (kernel[0], kernel[1])), b.map(unpadded_operand(x))
    for side in (0, 1):  # ceil_mode: windows that reach beyond the end
        reach = (shape[2 + side] - 1) * stride[side] + kernel[side] - b.shape(value)[side]
        pads[2 * side + 1] = max(pads[2 * side + 1], reach - pads[2 * side])
    return b.made(_largest(b, value, kernel, stride, pads), shape)


def _largest(b: Builder, value: str, kernel: list[int], stride: list[int], pads: list[int]) -> str:
    """A max pool; where its window is larger than one may be, of the largest of each row's part."""
    if math.prod(kernel) > MAX_KERNEL:
        need(max(kernel) <= MAX_KERNEL, f"at most {MAX_KERNEL} rows or columns are pooled, not {kernel}")
        value = _largest(b, value, [1, kernel[1]], [1, stride[1]], [0, 0, *pads[2:]])
        return _largest(b, value, [kernel[0], 1], [stride[0], 1], [*pads[:2], 0, 0])
    return b.emit("max_pool2d", [value], {"kernel": kernel, "stride": stride, "pad": pads})


def reduced(b: Builder, x: Operand, dims: Any, shape: Shape, kind: str) -> Operand:
    """One number for all positions along some axes: a pool of a map that has these as its rows."""
    x = b.settled(x)
    rank = len(x.shape)
    axes = sorted(d % rank for d in ([dims] if isinstance(dims, int) else dims or range(rank)))
    source = b.shape(x.value)
    if len(source) == 3 and covers(x.view, math.prod(source)):
        strides = {x.view.strides[axis] for axis in range(rank) if x.shape[axis] > 1 and axis not in axes}
        kept = math.prod(x.shape[axis] for axis in range(rank) if axis not in axes)
        if kept == source[2] and all(s < source[2] for s in strides):
            order = [axis for axis, _, _ in significant(x.view) if axis not in axes]
            if order == sorted(order):  # the channels of a map, in their order
                return b.made(_pooled(b, x.value, kind), shape)
    others = [axis for axis in range(rank) if axis not in axes]
    taken = math.prod(x.shape[axis] for axis in axes)
    kept = math.prod(x.shape[axis] for axis in others)
    if kept > MAX_EXTENT and taken <= MAX_KERNEL:  # windows of a map that has them as its columns
        return _windowed(b, x, axes, others, shape, kind)
    need(taken <= MAX_EXTENT and kept <= MAX_EXTENT, f"it reduces {taken} x {kept} numbers")
    rows = taken if kind == "mean" else _divisor(taken)  # windows are small
    value = b.ordered(x, x.view.permute([*axes, *others]), (rows, taken // rows, kept))
    return b.last(_pooled(b, value, kind), shape)


def _divisor(count: int) -> int:
    """The count, or where it is more rows than are pooled at once the largest divisor that is not."""
    if count <= MAX_KERNEL:
        return count
    return next(n for n in range(MAX_KERNEL, 0, -1) if count % n == 0)


def _windowed(b: Builder, x: Operand, axes: list[int], others: list[int], shape: Shape, kind: str) -> Operand:
    taken = math.prod(x.shape[axis] for axis in axes)
    before: list[int] = []
    while others and math.prod(x.shape[axis] for axis in others) > MAX_EXTENT:
        before.append(others.pop(0))
    size = (math.prod(x.shape[a] for a in before), taken, math.prod(x.shape[a] for a in others))
    need(size[0] <= MAX_EXTENT, f"it reduces {taken} of each of {list(x.shape)}")
    value = b.ordered(x, x.view.permute([*before, *axes, *others]), size)
    kernel, pads = [1, taken], [0, 0, 0, 0]
    if kind == "mean":
        return b.last(_average(b, value, kernel, kernel, pads, 0), shape)
    return b.last(_largest(b, value, kernel, kernel, pads), shape)


def _pooled(b: Builder, value: str, kind: str) -> str:
    if kind == "mean":
        return b.emit("global_avg_pool", [value])
    return _largest(b, value, list(b.shape(value)[:2]), [1, 1], [0, 0, 0, 0])


def mean(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return reduced(b, operand(a["self"]), a.get("dim"), shape, "mean")


def total(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """A sum: the mean, times how many there are."""
    x = operand(a["self"])
    return elementwise.scaled(b, mean(b, a, shape), math.prod(x.shape) / math.prod(shape))


def amax(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return reduced(b, operand(a["self"]), a.get("dim"), shape, "max")


def amin(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """-max(-x)."""
    x = elementwise.scaled(b, operand(a["self"]), -1.0)
    return elementwise.scaled(b, amax(b, {**a, "self": x}, shape), -1.0)


@channelwise
def adaptive_max_pool2d(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = operand(a["self"])
    value = b.map(x)
    height, width, _ = b.shape(value)
    need(
        height % shape[2] == 0 and width % shape[3] == 0,
        f"its output size {size_text(shape[2:])} must divide the map",
    )
    kernel = [height // shape[2], width // shape[3]]
    return b.made(_largest(b, value, kernel, kernel, [0, 0, 0, 0]), shape)


@channelwise
def adaptive_avg_pool2d(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = operand(a["self"])
    if shape == x.shape:
        return x
    value = b.map(x)
    height, width, _ = b.shape(value)
    if shape[2:] == (1, 1):
        return b.made(_pooled(b, value, "mean"), shape)
    kernel = [height // shape[2], width // shape[3]]
    if height % shape[2] == 0 and width % shape[3] == 0 and math.prod(kernel) <= MAX_KERNEL:
        return b.made(_average(b, value, kernel, kernel, [0, 0, 0, 0], 0), shape)
    return b.made(b.emit("adaptive_avg_pool2d", [value], {"size": list(shape[2:])}), shape)


def _average(
    b: Builder, value: str, kernel: list[int], stride: list[int], pads: list[int], count_pad: int
) -> str:
    attrs = {"kernel": kernel, "stride": stride, "pad": pads, "count_pad": count_pad}
    return b.emit("avg_pool2d", [value], attrs)


@channelwise
def avg_pool2d(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x, kernel, padding = operand(a["self"]), pair(a["kernel_size"]), pair(a["padding"])
    stride = pair(a["stride"]) if a["stride"] else kernel
    value = b.map(x)
    height, width, _ = b.shape(value)
    divisor = a["divisor_override"]
    need(divisor in (None, math.prod(kernel)), f"divisor_override must be None, not {divisor}")
    if kernel == [height, width] and not any(padding):
        return b.made(_pooled(b, value, "mean"), shape)
    pads = [padding[0], padding[0], padding[1], padding[1]]
    count_pad = int(bool(a["count_include_pad"] or divisor) and any(padding))
    for side in (0, 1):  # ceil_mode: windows that reach beyond the end
        reach = (shape[2 + side] - 1) * stride[side] + kernel[side] - b.shape(value)[side] - pads[2 * side]
        if reach > pads[2 * side + 1]:
            need(not count_pad, "with ceil_mode it must not count padding (count_include_pad)")
            pads[2 * side + 1] = reach
    return b.made(_average(b, value, kernel, stride, pads, count_pad), shape)


def one_row(rule: Rule) -> Rule:
    """A rule for windows over maps, for windows over sequences: maps of one row."""

    def row(b: Builder, a: Arguments, shape: Shape) -> Operand:
        x = operand(a["self"])
        wide = {name: [first, *a[name]] for name, first in _FIRST.items() if a.get(name)}
        shown = seen(x.value, b.settled(x).view.unsqueeze(2))
        made = rule(
            b, {"divisor_override": None, **a, **wide, "self": shown}, (*shape[:2], 1, shape[2])
        )  # fmt: skip
        return seen(made.value, made.view.squeeze(2))

    return row


#: What a window over sequences does in the direction that these do not have.
_FIRST = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}


def resize_nearest(mode: str) -> Rule:
    """Upsampling by copies; `mode`: of ir/coordinates.py."""

    @channelwise
    def rule(b: Builder, a: Arguments, shape: Shape) -> Operand:
        return _resize(b, a, shape, "resize_nearest", mode)

    return rule


@channelwise
def resize_bilinear(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return _resize(b, a, shape, "resize_bilinear", "align_corners" if a["align_corners"] else "half_pixel")


def _resize(b: Builder, a: Arguments, shape: Shape, op: str, mode: str) -> Operand:
    x = operand(a.get("input", a.get("self")))
    value = b.map(x)
    height, width, _ = b.shape(value)
    factors = a.get("scale_factors") or [a.get("scales_h"), a.get("scales_w")]
    if mode != "align_corners":  # torch then computes coordinates with the factors themselves
        for factor, extent, made in zip(factors, (height, width), shape[2:], strict=True):
            need(
                factor is None
                or a.get("output_size") is not None
                or a.get("size") is not None
                or abs(extent * factor - made) < 1e-6,
                f"its scale factor {factor} makes no whole number of rows or columns; give it a size",
            )
    if tuple(shape[2:]) == (height, width):
        return b.made(value, shape)
    return b.made(b.emit(op, [value], {"size": list(shape[2:]), "mode": mode}), shape)
