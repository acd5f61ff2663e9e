"""Rules for layers with weights, pooling and padding."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from subbyte.importers.rules.arguments import Arguments, Shape, need, pair, window_pads
from subbyte.importers.torch_export import elementwise
from subbyte.importers.torch_export.arguments import Rule, array, operand, vector
from subbyte.importers.torch_export.builder import Builder, Operand, seen, unpadded_operand
from subbyte.importers.torch_export.strides import covers, significant
from subbyte.ir.limits import MAX_EXTENT, MAX_KERNEL


def convolution(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = operand(a["input"])
    need(not a.get("transposed", False), "transposed convolution")
    need(x.fill == 0.0, f"a convolution takes padding with zeros over, not with {x.fill:g}", x.origin)
    weight, dilation = array(a["weight"], "weight"), pair(a["dilation"])
    need(weight.ndim == 4, "only two-dimensional convolution")
    reach = [(taps - 1) * apart + 1 for taps, apart in zip(weight.shape[2:], dilation, strict=True)]
    pads, source = window_pads(a["padding"], x.pad, (reach[0], reach[1])), unpadded_operand(x)
    if max(pads[:2]) >= reach[0] or max(pads[2:]) >= reach[1]:  # windows that see nothing but padding
        top, bottom, left, right = pads
        height, width = source.shape[2] + top + bottom, source.shape[3] + left + right
        wider = (*source.shape[:2], height, width)
        source, pads = replace(source, shape=wider, pad=(top, bottom, left, right), fill=0.0), [0, 0, 0, 0]
    taps, stride = list(weight.shape[2:]), pair(a["stride"])
    if math.prod(taps) > MAX_KERNEL and taps == stride and not any(pads) and int(a["groups"]) == 1:
        return _patches(b, source, weight, a["bias"], shape)
    attrs = {"stride": stride, "pad": pads, "groups": int(a["groups"]), "act": "none"}
    if dilation != [1, 1]:
        attrs["dilation"] = dilation
    params = {
        "weight": np.ascontiguousarray(weight.transpose(0, 2, 3, 1)),
        "bias": vector(a["bias"], "bias", len(weight), 0.0),
    }
    return b.made(b.emit("conv2d", [b.map(source)], attrs, params), shape)


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


def conv1d(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """Of one sequence of one channel, such as a pooled vector: a linear layer. Else: of a map of one row."""
    x, weight = operand(a["input"]), array(a["weight"], "weight")
    (stride,), (padding,), (dilation,) = (list(a[name]) for name in ("stride", "padding", "dilation"))
    if weight.shape[:2] != (1, 1) or x.shape[:2] != (1, 1):
        row = seen(x.value, b.settled(x).view.unsqueeze(2))
        flat = {"stride": [1, stride], "padding": [0, padding], "dilation": [1, dilation], "input": row}
        made = convolution(b, {**a, **flat, "weight": a["weight"].unsqueeze(2)}, (*shape[:2], 1, shape[2]))
        return seen(made.value, made.view.squeeze(2))
    matrix = np.zeros((shape[2], x.shape[2]), np.float32)
    for output in range(shape[2]):
        for tap in range(weight.shape[2]):
            place = output * stride + tap * dilation - padding
            if 0 <= place < x.shape[2]:
                matrix[output, place] += weight[0, 0, tap]
    flat_x = seen(x.value, b.settled(x).view.reshape(1, -1))
    bias = None if a["bias"] is None else a["bias"].expand(shape[2])
    made = _linear_layer(b, flat_x, matrix, bias, (1, shape[2]))
    return seen(made.value, made.view.unsqueeze(1))


def conv_transpose2d(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """A convolution that makes every phase of the output as channels of its own, and a rearrange that puts
    them in their places (arXiv 1609.07009)."""
    x, weight = operand(a["input"]), array(a["weight"], "weight")
    stride, padding, groups = pair(a["stride"]), pair(a["padding"]), int(a["groups"])
    need(pair(a["dilation"]) == [1, 1], "a transposed convolution must not be dilated")
    need(weight.ndim == 4, "only two-dimensional convolution")
    inputs, each, *kernel = weight.shape
    outputs = each * groups
    taps = [-(-k // s) for k, s in zip(kernel, stride, strict=True)]
    phases = np.zeros((*stride, outputs, *taps, inputs), np.float32)
    for group in range(groups):
        of_group = slice(group * inputs // groups, (group + 1) * inputs // groups)
        for ky in range(kernel[0]):
            for kx in range(kernel[1]):
                # output y = s * i + ky reads input i; as a convolution taps run the other way
                place = taps[0] - 1 - ky // stride[0], taps[1] - 1 - kx // stride[1]
                rows = slice(group * each, (group + 1) * each)
                phases[ky % stride[0], kx % stride[1], rows, place[0], place[1], of_group] = weight[
                    of_group, :, ky, kx
                ].T
    bias = vector(a["bias"], "bias", outputs, 0.0)
    attrs = {
        "stride": [1, 1],
        "pad": [side for n in taps for side in (n - 1, n - 1)],
        "groups": 1,
        "act": "none",
    }
    params = {
        "weight": phases.reshape(-1, *taps, inputs),
        "bias": np.tile(bias, stride[0] * stride[1]),
    }
    value = b.emit("conv2d", [b.map(x)], attrs, params)
    height, width = b.shape(value)[:2]
    dims = [height, width, stride[0], stride[1], outputs]
    size = [height * stride[0], width * stride[1], outputs]
    if stride != [1, 1]:
        value = b.emit("rearrange", [value], {"dims": dims, "perm": [0, 2, 1, 3, 4], "size": size})
    need_y, need_x = shape[2] + padding[0], shape[3] + padding[1]
    short = max(0, need_y - size[0]), max(0, need_x - size[1])
    if any(short):  # output_padding beyond the last phase, which nothing but the bias reaches
        need(not bias.any(), "output_padding reaches beyond what the kernel covers")
        value = b.emit("pad", [value], {"pad": [0, short[0], 0, short[1]], "mode": "zero"})
    begin = [padding[0], padding[1], 0]
    end = [need_y, need_x, outputs]
    if begin != [0, 0, 0] or tuple(end) != b.shape(value):
        value = b.emit("slice", [value], {"begin": begin, "end": end, "step": [1, 1, 1]})
    return b.made(value, shape)


def _size(x: Any) -> str:
    """ "3 x 3" of [3, 3] or 3."""
    return " x ".join(map(str, pair(x)))


def max_pool2d(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = operand(a["self"])
    need(pair(a["dilation"]) == [1, 1], f"dilation must be 1, not {_size(a['dilation'])}")
    if x.fill != -math.inf:
        x = b.settled(x)
    kernel = pair(a["kernel_size"])
    stride = pair(a["stride"]) if a["stride"] else kernel
    pads, value = window_pads(a["padding"], x.pad, (kernel[0], kernel[1])), b.map(unpadded_operand(x))
    for side in (0, 1):  # ceil_mode: windows that reach beyond the end
        reach = (shape[2 + side] - 1) * stride[side] + kernel[side] - b.shape(value)[side]
        pads[2 * side + 1] = max(pads[2 * side + 1], reach - pads[2 * side])
    attrs = {"kernel": kernel, "stride": stride, "pad": pads}
    return b.made(b.emit("max_pool2d", [value], attrs), shape)


_MODES = {"reflect": "reflect", "replicate": "edge"}


def pad(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """Constant padding waits for a window that takes it over; negative one is a view of a part."""
    x, sides = operand(a["self"]), [*a["pad"], 0, 0, 0, 0, 0, 0][:8]
    fill = float(a.get("value") or 0.0)
    mode = a.get("mode", "constant")
    need(mode in ("constant", *_MODES), f"padding must be constant, reflect or replicate, not {mode!r}")
    if len(x.shape) == 3 and not any(sides[4:]):  # [C, H, W] of one image, or a sequence
        raise_to = seen(x.value, b.settled(x).view.unsqueeze(0))
        made = b.plain(pad(b, {**a, "self": raise_to}, (1, *shape)))
        return seen(made.value, made.view.squeeze(0))
    need(not any(sides[6:]), f"padding must add to channels, height and width, not be {sides}")
    if any(sides[4:6]):
        return _pad_channels(b, x, sides, fill, shape)
    if min(sides) < 0:
        need(len(x.shape) == 4, "only maps can be cropped by padding")
        for axis, (before, after) in ((3, sides[:2]), (2, sides[2:4])):
            view = b.settled(x).view
            cut = min(before, 0), min(after, 0)
            x = seen(b.settled(x).value, view.narrow(axis, -cut[0], view.shape[axis] + sum(cut)))
        sides = [max(side, 0) for side in sides]
    if not any(sides):
        return x
    left, right, top, bottom = sides[:4]
    if mode != "constant":
        attrs = {"pad": [top, bottom, left, right], "mode": _MODES[mode]}
        return b.made(b.emit("pad", [b.map(x)], attrs), shape)
    need(not any(x.pad) or x.fill == fill, "it pads a padded tensor with another value")
    source = unpadded_operand(x)
    source = b.made(b.map(source), source.shape)  # refuses anything but a map
    t, bo, le, r = x.pad
    return replace(source, shape=shape, pad=(t + top, bo + bottom, le + left, r + right), fill=fill)


def _pad_channels(b: Builder, x: Operand, sides: list[int], fill: float, shape: Shape) -> Operand:
    """Rows that padding adds to a map on its side are its new channels."""
    need(
        not any(sides[:4]) and fill == 0.0 and min(sides) >= 0,
        f"padding of channels must be of zeros, not {sides}",
    )
    side = b.settled(x).view.permute(0, 2, 1, 3)
    value = b.ordered(x, side.permute(0, 2, 3, 1), (side.shape[2], side.shape[3], side.shape[1]))
    padded = b.emit("pad", [value], {"pad": [sides[4], sides[5], 0, 0], "mode": "zero"})
    return seen(padded, b.made(padded, (1, shape[2], shape[1], shape[3])).view.permute(0, 2, 1, 3))


def batch_norm(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = operand(a["input"])
    if len(x.shape) == 4:
        value = b.map(x)
    elif len(x.shape) == 2 and x.shape[0] == 1:
        value = b.vector(x)
    else:  # torch's second axis are the channels
        x = b.settled(x)
        value = b.rows(seen(x.value, x.view.movedim(1, -1)))
    size = b.shape(value)[-1]
    params = {
        "weight": vector(a["weight"], "weight", size, 1.0),
        "bias": vector(a["bias"], "bias", size, 0.0),
        "mean": array(a["running_mean"], "mean"),
        "var": array(a["running_var"], "variance"),
    }
    made = b.emit("batch_norm", [value], {"eps": float(a["eps"])}, params)
    if len(shape) == 4 or (len(shape) == 2 and shape[0] == 1):
        return b.made(made, shape)
    moved = b.last(made, (shape[0], *shape[2:], shape[1]))
    return seen(moved.value, moved.view.movedim(-1, 1))


def _linear_layer(b: Builder, x: Any, weight: np.ndarray, bias: Any, shape: Shape) -> Operand:
    x = operand(x)
    if len(x.shape) != 2 or x.shape[0] != 1:  # of each position: a 1 x 1 convolution of channels last
        value = b.rows(x)
        need(len(b.shape(value)) == 3, "it needs a map or one vector per image")
        attrs = {"stride": [1, 1], "pad": [0, 0, 0, 0], "groups": 1, "act": "none"}
        params = {
            "weight": np.ascontiguousarray(weight[:, None, None, :]),
            "bias": vector(bias, "bias", len(weight), 0.0),
        }
        return b.last(b.emit("conv2d", [value], attrs, params), shape)
    if x.folded is not None:  # torch flattened (C, H, W), the graph flattens (H, W, C)
        value = b.map(replace(x, shape=x.folded, folded=None))
        height, width, channels = b.shape(value)
        weight = weight.reshape(-1, channels, height, width).transpose(0, 2, 3, 1).reshape(len(weight), -1)
        value = b.flat(b.last(value, x.shape))
    else:
        value = b.vector(x)
    params = {"weight": np.ascontiguousarray(weight), "bias": vector(bias, "bias", len(weight), 0.0)}
    return b.made(b.emit("linear", [value], {"act": "none"}, params), shape)


def linear(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return _linear_layer(b, a["input"], array(a["weight"], "weight"), a["bias"], shape)


def matmul(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x, other = a["self"], a.get("mat2", a.get("other"))
    if isinstance(x, Operand) and isinstance(other, Operand):
        return _product(b, x, other, shape)
    weight = array(a.get("mat2", a.get("other")), "second operand")
    need(weight.ndim == 2, "only a matrix as second operand")
    return _linear_layer(b, a["self"], weight.T, None, shape)


def addmm(b: Builder, a: Arguments, shape: Shape) -> Operand:
    need(a["alpha"] == 1 and a["beta"] == 1, "alpha and beta must be 1")
    bias = array(a["self"], "bias")
    weight = array(a["mat2"], "second operand").T
    bias = np.broadcast_to(bias.reshape(-1), (len(weight),)).copy()
    return _linear_layer(b, a["mat1"], weight, torch.from_numpy(bias), shape)


def layer_norm(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """Over torch's last axis; over all axes at once it is a group normalization with one group."""
    x = operand(a.get("input", a.get("self")))
    over = tuple(a["normalized_shape"])
    size = int(np.prod(over))
    weight, bias = vector(a["weight"], "weight", size, 1.0), vector(a["bias"], "bias", size, 0.0)
    attrs: dict[str, Any] = {"eps": float(a["eps"])}
    if len(over) == 1:
        value = b.rows(x)
        params = {"weight": weight, "bias": bias}
        return b.last(b.emit("layer_norm", [value], attrs, params), shape)
    need(
        over == x.shape[1:] and len(x.shape) == 4,
        "a layer normalization must be over the last axis or over all",
    )
    value = b.map(x)
    channels = over[0]
    by_channel = [np.asarray(v).reshape(channels, -1) for v in (weight, bias)]
    need(
        all((v == v[:, :1]).all() for v in by_channel),
        "a layer normalization of maps must have one weight per channel",
    )
    params = {
        role: np.ascontiguousarray(v[:, 0]) for role, v in zip(("weight", "bias"), by_channel, strict=True)
    }
    return b.made(b.emit("group_norm", [value], {**attrs, "groups": 1}, params), shape)


def group_norm(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = operand(a["input"])
    value = b.map(x)
    channels = b.shape(value)[2]
    params = {
        "weight": vector(a["weight"], "weight", channels, 1.0),
        "bias": vector(a["bias"], "bias", channels, 0.0),
    }
    groups = a.get("num_groups", a.get("group"))
    return b.made(b.emit("group_norm", [value], {"eps": float(a["eps"]), "groups": groups}, params), shape)


def instance_norm(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """In evaluation with running statistics it is a batch normalization, without a group of each channel."""
    if not a["use_input_stats"]:
        return batch_norm(b, a, shape)
    return group_norm(b, {**a, "num_groups": shape[1]}, shape)


def softmax(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x, axis, dtype = b.settled(operand(a["self"])), a["dim"] % len(shape), a.get("dtype")
    need(dtype in (None, torch.float32), f"only float32 is computed with, not {dtype}")
    view = x.view.movedim(axis, -1)
    value = b.rows(seen(x.value, view))
    made = b.last(b.emit("softmax", [value]), tuple(view.shape))
    return seen(made.value, made.view.movedim(-1, axis))


def attention(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """softmax(q k^T scale) v."""
    q, k, v = (operand(a[name]) for name in ("query", "key", "value"))
    mask = a["attn_mask"]
    constant = mask is None or (isinstance(mask, torch.Tensor) and mask.is_floating_point())
    need(constant and not a["is_causal"], "attention must not be masked but by adding a constant")
    scale = a["scale"] or q.shape[-1] ** -0.5
    q = elementwise.scaled(b, q, scale)
    turned = seen(k.value, b.settled(k).view.transpose(-1, -2))
    weights = _product(b, q, turned, (*q.shape[:-1], k.shape[-2]))
    if mask is not None:
        weights = elementwise.add(b, {"self": weights, "other": mask, "alpha": 1}, weights.shape)
    weights = softmax(b, {"self": weights, "dim": -1}, weights.shape)
    return _product(b, weights, v, shape)


def _product(b: Builder, x: Operand, y: Operand, shape: Shape) -> Operand:
    """A matrix product of two tensors that depend on the image."""
    x, y = b.settled(x), b.settled(y)
    need(len(x.shape) >= 2 and len(y.shape) >= 2, "only products of matrices")
    batch, (rows, inner), columns = shape[:-2], x.shape[-2:], y.shape[-1]
    count = math.prod(batch)
    left = b.ordered(x, x.view.expand(*batch, rows, inner), (count, rows, inner))
    right = b.ordered(y, y.view.transpose(-1, -2).expand(*batch, columns, inner), (count, columns, inner))
    return b.last(b.emit("matmul", [left, right]), shape)


def _reduced(b: Builder, x: Operand, dims: Any, shape: Shape, kind: str) -> Operand:
    """One number for all positions along some axes: a pool of a map that has these as its rows."""
    x = b.settled(x)
    rank = len(x.shape)
    axes = sorted(d % rank for d in ([dims] if isinstance(dims, int) else dims or range(rank)))
    source = b.shape(x.value)
    if len(source) == 3 and covers(x.view, math.prod(source)):
        strides = {x.view.stride(axis) for axis in range(rank) if x.shape[axis] > 1 and axis not in axes}
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
    value = b.ordered(x, x.view.permute(*axes, *others), (taken, 1, kept))
    return b.last(_pooled(b, value, kind), shape)


def _windowed(b: Builder, x: Operand, axes: list[int], others: list[int], shape: Shape, kind: str) -> Operand:
    taken = math.prod(x.shape[axis] for axis in axes)
    before: list[int] = []
    while others and math.prod(x.shape[axis] for axis in others) > MAX_EXTENT:
        before.append(others.pop(0))
    size = (math.prod(x.shape[a] for a in before), taken, math.prod(x.shape[a] for a in others))
    need(size[0] <= MAX_EXTENT, f"it reduces {taken} of each of {list(x.shape)}")
    value = b.ordered(x, x.view.permute(*before, *axes, *others), size)
    kernel, pads = [1, taken], [0, 0, 0, 0]
    if kind == "mean":
        return b.last(_average(b, value, kernel, kernel, pads, 0), shape)
    attrs = {"kernel": kernel, "stride": kernel, "pad": pads}
    return b.last(b.emit("max_pool2d", [value], attrs), shape)


def _pooled(b: Builder, value: str, kind: str) -> str:
    if kind == "mean":
        return b.emit("global_avg_pool", [value])
    kernel = list(b.shape(value)[:2])
    attrs = {"kernel": kernel, "stride": [1, 1], "pad": [0, 0, 0, 0]}
    return b.emit("max_pool2d", [value], attrs)


def mean(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return _reduced(b, operand(a["self"]), a.get("dim"), shape, "mean")


def total(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """A sum: the mean, times how many there are."""
    x = operand(a["self"])
    return elementwise.scaled(b, mean(b, a, shape), math.prod(x.shape) / math.prod(shape))


def amax(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return _reduced(b, operand(a["self"]), a.get("dim"), shape, "max")


def adaptive_max_pool2d(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = operand(a["self"])
    value = b.map(x)
    height, width, _ = b.shape(value)
    need(
        height % shape[2] == 0 and width % shape[3] == 0,
        f"its output size {_size(shape[2:])} must divide the map",
    )
    kernel = [height // shape[2], width // shape[3]]
    attrs = {"kernel": kernel, "stride": kernel, "pad": [0, 0, 0, 0]}
    return b.made(b.emit("max_pool2d", [value], attrs), shape)


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


def resize_nearest(mode: str) -> Rule:
    """Upsampling by copies; `mode`: of ir/coordinates.py."""

    def rule(b: Builder, a: Arguments, shape: Shape) -> Operand:
        return _resize(b, a, shape, "resize_nearest", mode)

    return rule


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


def pixel_shuffle(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x, factor = b.settled(operand(a["self"])), a["upscale_factor"]
    n, channels, height, width = x.shape
    axes = x.view.view(n, channels // factor**2, factor, factor, height, width).permute(0, 1, 4, 2, 5, 3)
    return _image(b, x, axes, shape)


def pixel_unshuffle(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x, factor = b.settled(operand(a["self"])), a["downscale_factor"]
    n, channels, height, width = x.shape
    axes = x.view.view(n, channels, height // factor, factor, width // factor, factor).permute(
        0, 1, 3, 5, 2, 4
    )
    axes = axes.permute(0, 1, 2, 3, 4, 5)
    flat = (height // factor, width // factor, channels * factor**2)
    return b.made(b.ordered(x, axes.permute(0, 4, 5, 1, 2, 3), flat), shape)


def _image(b: Builder, x: Operand, axes: torch.Tensor, shape: Shape) -> Operand:
    """The map of torch's shape from a view [1, C, h, rows, w, columns]."""
    size = (shape[2], shape[3], shape[1])
    return b.made(b.ordered(x, axes.permute(0, 2, 3, 4, 5, 1), size), shape)


def channel_shuffle(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x, groups = b.settled(operand(a["self"])), a["groups"]
    n, channels, height, width = x.shape
    axes = x.view.view(n, groups, channels // groups, height, width).permute(0, 3, 4, 2, 1)
    return b.made(b.ordered(x, axes, (height, width, channels)), shape)
