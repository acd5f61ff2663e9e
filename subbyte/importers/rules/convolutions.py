"""Rules for convolutions of all kinds."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from subbyte.importers.rules.arguments import (
    MAX_MATRIX,
    Arguments,
    Shape,
    array,
    need,
    operand,
    pair,
    vector,
    window_pads,
)
from subbyte.importers.rules.matrices import linear_layer
from subbyte.importers.rules.operands import Builder, Operand, seen, unpadded_operand
from subbyte.importers.rules.phases import phases
from subbyte.ir.limits import MAX_KERNEL


def convolution(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = operand(a["input"])
    if a.get("transposed", False):
        return transposed(b, a, shape)
    if x.fill != 0.0:
        x = b.settled(x)
    weight, dilation = array(a["weight"], "weight"), pair(a["dilation"])
    if weight.ndim == 3:
        return conv1d(b, a, shape)
    need(weight.ndim == 4, "only convolutions of one and two dimensions are known")
    if len(x.shape) == 4 and x.shape[0] > 1:
        return _batch(b, x, a, weight, shape)
    reach = [(taps - 1) * apart + 1 for taps, apart in zip(weight.shape[2:], dilation, strict=True)]
    pads, source = window_pads(a["padding"], x.pad, (reach[0], reach[1])), unpadded_operand(x)
    if max(pads[:2]) >= reach[0] or max(pads[2:]) >= reach[1]:  # windows that see nothing but padding
        source, pads = _padded(source, pads), [0, 0, 0, 0]
    taps, stride = list(weight.shape[2:]), pair(a["stride"])
    groups = int(a["groups"])
    if math.prod(taps) > MAX_KERNEL:
        if taps == stride and not any(pads) and groups == 1:
            return _patches(b, source, weight, a["bias"], shape)
        need(dilation == [1, 1], f"a convolution of more than {MAX_KERNEL} taps must not be dilated")
        return _bands(b, _padded(source, pads), weight, a["bias"], stride, groups, shape)
    attrs = {"stride": stride, "pad": pads, "groups": groups, "act": "none"}
    if dilation != [1, 1]:
        attrs["dilation"] = dilation
    params = {
        "weight": np.ascontiguousarray(weight.transpose(0, 2, 3, 1)),
        "bias": vector(a["bias"], "bias", len(weight), 0.0),
    }
    return b.made(b.emit("conv2d", [b.map(source)], attrs, params), shape)


def _batch(b: Builder, x: Operand, a: Arguments, weight: np.ndarray, shape: Shape) -> Operand:
    """Of several maps, such as the windows of an image: groups of channels with the same weights."""
    n = x.shape[0]
    need(n * weight.size <= MAX_MATRIX, f"it goes over {n} maps with {weight.size} weights each")
    bias = None if a["bias"] is None else np.tile(array(a["bias"], "bias"), n)
    more = {"weight": np.tile(weight, (n, 1, 1, 1)), "bias": bias, "groups": n * int(a["groups"])}
    maps = b.reshaped_to(x, (1, n * x.shape[1], *x.shape[2:]))
    made = convolution(b, {**a, **more, "input": maps}, (1, n * shape[1], *shape[2:]))
    return b.reshaped_to(made, shape)


def _padded(x: Operand, pads: list[int]) -> Operand:
    """x with zeros around it that are still to be added."""
    if not any(pads):
        return x
    top, bottom, left, right = pads
    wider = (*x.shape[:2], x.shape[2] + top + bottom, x.shape[3] + left + right)
    return replace(x, shape=wider, pad=(top, bottom, left, right), fill=0.0)


def _patches(b: Builder, x: Operand, weight: np.ndarray, bias: Any, shape: Shape) -> Operand:
    """A convolution of patches that do not overlap, larger than a window may be: they become channels."""
    outputs, inputs, *kernel = weight.shape
    value = b.map(x)
    rows, columns = shape[2:]
    cut = {"begin": [0, 0, 0], "end": [rows * kernel[0], columns * kernel[1], inputs], "step": [1, 1, 1]}
    if tuple(cut["end"]) != b.shape(value):
        value = b.emit("slice", [value], cut)
    dims = [rows, kernel[0], columns, kernel[1], inputs]
    size = [rows, columns, kernel[0] * kernel[1] * inputs]
    value = b.emit("rearrange", [value], {"dims": dims, "perm": [0, 2, 1, 3, 4], "size": size})
    attrs = {"stride": [1, 1], "pad": [0, 0, 0, 0], "groups": 1, "act": "none"}
    params = {
        "weight": np.ascontiguousarray(weight.transpose(0, 2, 3, 1).reshape(outputs, 1, 1, -1)),
        "bias": vector(bias, "bias", outputs, 0.0),
    }
    return b.made(b.emit("conv2d", [value], attrs, params), shape)


def _bands(
    b: Builder, x: Operand, weight: np.ndarray, bias: Any, stride: list[int], groups: int, shape: Shape
) -> Operand:
    """A convolution with a larger window than one may have: a sum of some with a few rows of it each."""
    rows, columns = weight.shape[2:]
    need(columns <= MAX_KERNEL, f"at most {MAX_KERNEL} taps in a row are possible, not {columns}")
    each = MAX_KERNEL // columns
    source = b.settled(x)
    total: Operand | None = None
    for first in range(0, rows, each):
        taps = min(each, rows - first)
        seen_rows = range(first, first + (shape[2] - 1) * stride[0] + taps)
        part = seen(source.value, source.view.cut(2, seen_rows))
        attrs = {"stride": stride, "pad": [0, 0, 0, 0], "groups": groups, "act": "none"}
        params = {
            "weight": np.ascontiguousarray(weight[:, :, first : first + taps].transpose(0, 2, 3, 1)),
            "bias": vector(bias if first == 0 else None, "bias", len(weight), 0.0),
        }
        made = b.made(b.emit("conv2d", [b.map(part)], attrs, params), shape)
        total = made if total is None else b.made(b.emit("add", [total.value, made.value]), shape)
    assert total is not None
    return total


def conv1d(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """Of one sequence of one channel, such as a pooled vector: a linear layer. Else: of a map of one row."""
    x, weight = operand(a["input"]), array(a["weight"], "weight")
    padding = a["padding"] if isinstance(a["padding"], str) else list(a["padding"])
    (stride,), (dilation,) = (list(a[name]) for name in ("stride", "dilation"))
    dense = weight.shape[:2] == (1, 1) == x.shape[:2] and shape[2] * x.shape[2] <= MAX_MATRIX
    if not dense or isinstance(padding, str):
        row = seen(x.value, b.settled(x).view.unsqueeze(2))
        sides = padding if isinstance(padding, str) else [0, *padding]
        flat = {"stride": [1, stride], "padding": sides, "dilation": [1, dilation], "input": row}
        made = convolution(b, {**a, **flat, "weight": weight[:, :, None]}, (*shape[:2], 1, shape[2]))
        return seen(made.value, made.view.squeeze(2))
    matrix = np.zeros((shape[2], x.shape[2]), np.float32)
    for output in range(shape[2]):
        for tap in range(weight.shape[2]):
            place = output * stride + tap * dilation - padding[0]
            if 0 <= place < x.shape[2]:
                matrix[output, place] += weight[0, 0, tap]
    flat_x = b.reshaped_to(x, (1, x.shape[2]))
    bias = None if a["bias"] is None else np.full(shape[2], array(a["bias"], "bias")[0], np.float32)
    made = linear_layer(b, flat_x, matrix, bias, (1, shape[2]))
    return seen(made.value, made.view.unsqueeze(1))


def transposed(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """A convolution of phases, and a rearrange that puts them in their places."""
    x, weight = operand(a["input"]), array(a["weight"], "weight")
    if weight.ndim == 3:
        return _transposed_1d(b, a, shape)
    need(weight.ndim == 4, "only convolutions of one and two dimensions are known")
    stride, padding, groups = pair(a["stride"]), pair(a["padding"]), int(a["groups"])
    inputs, each, *kernel = weight.shape
    outputs = each * groups
    dilation = pair(a["dilation"])
    if dilation != [1, 1]:  # zeros between the taps
        wide = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        need(max(wide) <= MAX_KERNEL, f"its window reaches over {wide}")
        spread = np.zeros((inputs, each, *wide), np.float32)
        spread[:, :, :: dilation[0], :: dilation[1]] = weight
        weight, kernel = spread, wide
    # the last phase lies where the kernel, or output_padding behind it, ends
    ends = [n + p - (m - 1) * s for n, p, m, s in zip(shape[2:], padding, x.shape[2:], stride, strict=True)]
    taps = [-(-max(k, end) // s) for k, end, s in zip(kernel, ends, stride, strict=True)]
    kernels = phases(weight, stride, taps, groups)
    bias = vector(a["bias"], "bias", outputs, 0.0).reshape(groups, 1, each)
    attrs = {
        "stride": [1, 1],
        "pad": [side for n in taps for side in (n - 1, n - 1)],
        "groups": groups,
        "act": "none",
    }
    params = {
        "weight": kernels,
        "bias": np.tile(bias, (1, stride[0] * stride[1], 1)).reshape(-1),
    }
    value = b.emit("conv2d", [b.map(x)], attrs, params)
    height, width = b.shape(value)[:2]
    size = [height * stride[0], width * stride[1], outputs]
    if stride != [1, 1]:
        dims, perm = [height, width, *stride, outputs], [0, 2, 1, 3, 4]
        if groups > 1:
            dims, perm = [height, width, groups, *stride, each], [0, 3, 1, 4, 2, 5]
        value = b.emit("rearrange", [value], {"dims": dims, "perm": perm, "size": size})
    begin = [padding[0], padding[1], 0]
    end = [shape[2] + padding[0], shape[3] + padding[1], outputs]
    if begin != [0, 0, 0] or tuple(end) != b.shape(value):
        value = b.emit("slice", [value], {"begin": begin, "end": end, "step": [1, 1, 1]})
    return b.made(value, shape)


def _transposed_1d(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """Of a map of one row."""
    x = operand(a["input"])
    flat = {
        "input": seen(x.value, b.settled(x).view.unsqueeze(2)),
        "weight": array(a["weight"], "weight")[:, :, None],
        "stride": [1, *a["stride"]],
        "padding": [0, *a["padding"]],
        "dilation": [1, *a["dilation"]],
    }
    made = transposed(b, {**a, **flat}, (*shape[:2], 1, shape[2]))
    return seen(made.value, made.view.squeeze(2))


def col2im(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """F.fold: the sum of windows, where they lie; a transposed convolution by zeros and ones."""
    x, kernel, stride, padding = (
        operand(a["self"]),
        *(pair(a[n]) for n in ("kernel_size", "stride", "padding")),
    )
    need(pair(a["dilation"]) == [1, 1], "its windows must not be dilated")
    need(len(x.shape) == 3, "it needs windows, [N, C * taps, count]")
    n, taps, channels = x.shape[0], math.prod(kernel), shape[1]
    size = [(shape[2 + i] + 2 * padding[i] - kernel[i]) // stride[i] + 1 for i in (0, 1)]
    weight = np.tile(np.eye(taps, dtype=np.float32).reshape(taps, 1, *kernel), (channels, 1, 1, 1))
    left = [shape[2 + i] + 2 * padding[i] - kernel[i] - (size[i] - 1) * stride[i] for i in (0, 1)]
    options = {"stride": stride, "padding": padding, "output_padding": left, "groups": channels}
    maps = b.reshaped_to(x, (n, channels * taps, *size))
    more = {"input": maps, "weight": weight, "bias": None, "dilation": [1, 1]}
    return transposed(b, {**options, **more}, shape)
