"""Rules for layers with weights, pooling and padding."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from subbyte.importers.rules.phases import phases
from subbyte.importers.tflite.builder import Operand
from subbyte.importers.tflite.call import Call, Constant, Shape, need, unpadded
from subbyte.importers.tflite.moves import pad_channels
from subbyte.ir import CLAMP_ACTIVATIONS, Param
from subbyte.ir.limits import MAX_EXTENT
from subbyte.quant import QParams, QTensor
from subbyte.quant.format import INT8

_SAME, _VALID = 0, 1


class Asymmetric(Exception):
    """Weights less their zero point leave int8, so that the file's own quantization has no counterpart."""


def _out(c: Call, value: str) -> Operand:
    return Operand(value, c.b.outside(c.b.shape(value)))


def _window(c: Call, x: Operand, kernel: Shape, stride: Shape, padding: int) -> list[int]:
    """(t, b, l, r): what SAME adds, the odd zero last, and what a PAD left on x. kernel: of a dilated one
    from its first to its last tap."""
    need(padding in (_SAME, _VALID), f"its padding number {padding} is not known")
    need(len(x.shape) == 4, f"it needs a map [1, H, W, C], not {list(x.shape)}")
    need(min(*stride, *kernel) >= 1, f"its window {list(kernel)} or stride {list(stride)} is not positive")
    sides = list(x.pad)
    for axis in (0, 1):
        size = x.shape[1 + axis]
        total = max((-(-size // stride[axis]) - 1) * stride[axis] + kernel[axis] - size, 0)
        if padding == _SAME:
            sides[2 * axis] += total // 2
            sides[2 * axis + 1] += total - total // 2
    return sides


def _int8(c: Call, weight: Constant, axis: int) -> QTensor:
    """The weights as they are stored, their output channels, along `axis`, first."""
    tensor, raw = weight.tensor, c.raw(weight)
    need(tensor.dtype in ("int8", "uint8"), f"8-bit inputs need int8 weights, not {tensor.dtype}")
    need(
        len(tensor.scale) == 1 or (len(tensor.scale) == raw.shape[axis] and tensor.axis == axis),
        f"it has {len(tensor.scale)} scales for {raw.shape[axis]} output channels",
    )
    need(len(tensor.zero) == len(tensor.scale), "its weights have not as many zero points as scales")
    need(bool((np.abs(tensor.zero) <= 255).all()), "its weights have an impossible zero point")
    shape = [-1 if i == axis and len(tensor.zero) > 1 else 1 for i in range(raw.ndim)]
    values = raw.astype(np.int16) - tensor.zero.astype(np.int16).reshape(shape)
    if values.size and not (values.min() >= -128 and values.max() <= 127):
        raise Asymmetric
    values = np.moveaxis(values, axis, 0)
    return QTensor.from_values(values, np.broadcast_to(tensor.scale, (len(values),)), INT8)


def _bias(c: Call, index: int, outputs: int, x: QParams | None) -> np.ndarray:
    """Of real numbers float32 [O], else int32 [O] in units of the accumulator."""
    if not c.has(index):
        return np.zeros(outputs, np.float32 if x is None else np.int32)
    bias = c.constant(index, "bias")
    need(bias.tensor.shape == (outputs,), f"its bias has the shape {list(bias.tensor.shape)}")
    if x is None:
        need(bias.tensor.dtype != "int32" or len(bias.tensor.scale) > 0, "its bias has no scale")
        return c.numbers(bias)
    need(bias.tensor.dtype == "int32", f"its bias is {bias.tensor.dtype}, not int32")
    return np.array(c.raw(bias), np.int32)


def _params(c: Call, x: QParams | None, axis: int) -> dict[str, Param]:
    weight = c.constant(1, "weight")
    need(
        len(weight.tensor.shape) == (4 if c.operator.kind.endswith("CONV_2D") else 2),
        "its weight is misshaped",
    )
    found: Param
    if x is None:
        found = np.ascontiguousarray(np.moveaxis(c.numbers(weight), axis, 0))
    else:
        found = _int8(c, weight, axis)
    return {"weight": found, "bias": _bias(c, 2, found.shape[0], x)}


def _convolve(
    c: Call,
    params: dict[str, Param],
    groups: int,
    padding: int,
    stride: Shape,
    act: str,
    dilation: Shape = (1, 1),
) -> Operand:
    x = c.operand()
    need(x.fill == 0.0, f"a convolution takes padding with zeros over, not with {x.fill:g}")
    need(min(dilation) >= 1, f"its dilation {list(dilation)} is not positive")
    taps = zip(params["weight"].shape[1:3], dilation, strict=True)
    sides = _window(c, x, tuple((count - 1) * apart + 1 for count, apart in taps), stride, padding)
    own = act if act in CLAMP_ACTIVATIONS and c.q is not None else "none"
    attrs = {"stride": list(stride), "pad": sides, "groups": groups, "act": own}
    attrs |= {} if dilation == (1, 1) else {"dilation": list(dilation)}
    value = c.emit("conv2d", [c.b.map(unpadded(x))], "none" if own == act else act, attrs, params)
    return _out(c, value)


def conv_2d(c: Call) -> Operand:
    x = c.operand()
    params = _params(c, c.b.q(x.value), 0)
    inside = params["weight"].shape[3]
    need(len(x.shape) == 4 and inside >= 1 and x.shape[3] % inside == 0, "its weight does not fit its input")
    stride = (c.option(2), c.option(1))
    apart = c.option(5, default=1), c.option(4, default=1)
    return _convolve(c, params, x.shape[3] // inside, c.option(0, "b"), stride, c.fused(3), apart)


def depthwise_conv_2d(c: Call) -> Operand:
    """Weights [1, kh, kw, C * multiplier]: the outputs of a channel follow each other, as here."""
    x = c.operand()
    params = _params(c, c.b.q(x.value), 3)
    outputs, one = params["weight"].shape[:2]
    need(one == 1, "its weight is misshaped")
    weight = params["weight"]
    params["weight"] = _transposed(weight)
    need(len(x.shape) == 4 and outputs % x.shape[3] == 0, "its weight does not fit its input")
    stride, apart = (c.option(2), c.option(1)), (c.option(6, default=1), c.option(5, default=1))
    return _convolve(c, params, x.shape[3], c.option(0, "b"), stride, c.fused(4), apart)


def transpose_conv(c: Call) -> Operand:
    """Inputs: the size of the result, weights [O, kh, kw, I], the map, biases. It becomes a convolution of
    phases, which a rearrange puts in their places."""
    x, size = c.operand(2), c.ints(0, "size")
    need(len(x.shape) == 4 and len(size) == 4 and x.shape[0] == size[0] == 1, "it needs a map [1, H, W, C]")
    source = c.b.map(x)
    weight, grid = c.constant(1, "weight"), c.b.q(source)
    need(len(weight.tensor.shape) == 4 and weight.tensor.shape[3] == x.shape[3], "its weight is misshaped")
    outputs, *kernel = weight.tensor.shape[:3]
    stride = [c.option(2), c.option(1)]
    padding = c.option(0, "b")
    need(padding in (_SAME, _VALID) and min(*stride, *kernel) >= 1, "its padding or window is impossible")
    need(size[3] == outputs, f"it makes {outputs} channels, not {size[3]}")
    whole = [(n - 1) * s + k for n, s, k in zip(x.shape[1:3], stride, kernel, strict=True)]
    first = [max(n - m, 0) // 2 if padding == _SAME else 0 for n, m in zip(whole, size[1:3], strict=True)]
    ends = [n + p - (m - 1) * s for n, p, m, s in zip(size[1:3], first, x.shape[1:3], stride, strict=True)]
    taps = [-(-max(k, end) // s) for k, end, s in zip(kernel, ends, stride, strict=True)]
    need(max(*taps, *size) <= MAX_EXTENT and min(size) >= 1, f"it makes {size}")
    count = stride[0] * stride[1]
    c.b.room -= count * outputs * taps[0] * taps[1] * x.shape[3]
    need(c.b.room >= 0, "its phases have too many weights")
    found: Param
    if grid is None:
        found = phases(c.numbers(weight).transpose(3, 0, 1, 2), stride, taps)
    else:
        stored = _int8(c, weight, 0)
        codes = phases(stored.values().transpose(3, 0, 1, 2), stride, taps)
        found = QTensor.from_values(codes, np.tile(stored.scale, count), INT8)
    bias = np.tile(_bias(c, 3, outputs, grid), count)
    act = c.fused(3)
    own = act if act in CLAMP_ACTIVATIONS and c.q is not None else "none"
    attrs = {"stride": [1, 1], "pad": [n - 1 for n in taps for _ in (0, 1)], "groups": 1, "act": own}
    value = c.b.emit("conv2d", [source], attrs, {"weight": found, "bias": bias}, q=c.q)
    height, width = c.b.shape(value)[:2]
    made = [height * stride[0], width * stride[1], outputs]
    moved = {"dims": [height, width, *stride, outputs], "perm": [0, 2, 1, 3, 4], "size": made}
    value = c.b.emit("rearrange", [value], moved, name=c.b.sub("rearrange")) if count > 1 else value
    cut = {"begin": [*first, 0], "end": [first[0] + size[1], first[1] + size[2], outputs], "step": [1, 1, 1]}
    if cut["begin"] != [0, 0, 0] or cut["end"] != made:
        value = c.b.emit("slice", [value], cut, name=c.b.sub("slice"))
    return _out(c, value if own == act else c.b.activate(value, act, c.q, name=c.b.sub("act")))


def _transposed(weight: Param) -> Param:
    """[O, 1, kh, kw] as [O, kh, kw, 1]."""
    if isinstance(weight, QTensor):
        return replace(weight, codes=np.ascontiguousarray(weight.codes.transpose(0, 2, 3, 1)))
    return np.ascontiguousarray(weight.transpose(0, 2, 3, 1))


def fully_connected(c: Call) -> Operand:
    """On a vector a linear; on every position of a map, if the file keeps its dimensions, a 1x1 conv2d."""
    need(c.option(1, "b") == 0, "its weights are in an order of their own")
    x, act = c.operand(), c.fused(0)
    params = _params(c, c.b.q(x.value), 0)
    outputs, inside = params["weight"].shape
    if c.option(2, "b") and len(x.shape) == 4 and x.shape[1:3] != (1, 1) and x.shape[3] == inside:
        from_linear = params["weight"]
        if isinstance(from_linear, QTensor):
            params["weight"] = replace(from_linear, codes=from_linear.codes[:, None, None, :])
        else:
            params["weight"] = from_linear[:, None, None, :]
        return _convolve(c, params, 1, _VALID, (1, 1), act)
    need(math.prod(x.shape) == inside, f"its weight takes {inside} numbers, its input has {list(x.shape)}")
    own = act if act in CLAMP_ACTIVATIONS and c.q is not None else "none"
    vector = c.b.flat(replace(x, shape=(1, inside)))
    value = c.emit("linear", [vector], "none" if own == act else act, {"act": own}, params)
    kept = (*x.shape[:-1], outputs) if c.option(2, "b") else (1, outputs)
    return Operand(value, kept)


def _pool(c: Call) -> tuple[Operand, Shape, Shape, list[int]]:
    x = c.operand()
    kernel, stride = (c.option(4), c.option(3)), (c.option(2), c.option(1))
    return x, kernel, stride, _window(c, x, kernel, stride, c.option(0, "b"))


def max_pool_2d(c: Call) -> Operand:
    x, kernel, stride, sides = _pool(c)
    if x.fill == -np.inf:
        value = c.b.map(unpadded(x))
    else:
        sides = [own - more for own, more in zip(sides, x.pad, strict=True)]  # zeros of a PAD are numbers
        value = c.b.map(x)
    attrs = {"kernel": list(kernel), "stride": list(stride), "pad": sides}
    pooled = c.b.emit("max_pool2d", [value], attrs, q=c.b.q(value))
    act = c.fused(5)
    return _out(c, c.b.on(pooled, c.q) if act == "none" else c.b.activate(pooled, act, c.q, c.b.sub("act")))


def average_pool_2d(c: Call) -> Operand:
    """Of the positions of the window that lie inside the map."""
    x, kernel, stride, sides = _pool(c)
    if kernel == x.shape[1:3] and not any(sides):
        return _out(c, c.emit("global_avg_pool", [c.b.map(x)], c.fused(5)))
    sides = [own - more for own, more in zip(sides, x.pad, strict=True)]  # zeros of a PAD are numbers
    attrs = {"kernel": list(kernel), "stride": list(stride), "pad": sides, "count_pad": 0}
    return _out(c, c.emit("avg_pool2d", [c.b.map(x)], c.fused(5), attrs))


def mean(c: Call) -> Operand:
    x, axes = c.operand(), c.ints(1, "list of axes")
    rank = len(x.shape)
    over = sorted(axis % rank for axis in axes)
    need(rank == 4 and over == [1, 2], f"only over height and width, not over axes {axes} of {rank}")
    result = _out(c, c.emit("global_avg_pool", [c.b.map(x)]))
    return result if c.option(0, "b") else replace(result, shape=(1, x.shape[3]))


def pad(c: Call) -> Operand:
    x, amounts, fill = c.operand(), c.ints(1, "list of amounts"), 0.0
    need(not any(x.pad) or x.fill == 0.0, "it pads what is padded with another number")
    if c.has(2):
        value = c.numbers(c.constant(2, "value"))
        number = float(value.reshape(-1)[0]) if value.size == 1 else np.nan
        least = _least(c.b.q(x.value))
        need(number == 0.0 or number <= least, "it must add zeros, or the smallest number for a max pool")
        fill = 0.0 if number == 0.0 else -np.inf
    need(len(x.shape) == 4 and len(amounts) == 8, f"it must pad a map, not {list(x.shape)}")
    need(min(amounts) >= 0, f"it cannot add {min(amounts)} rows or columns")
    need(amounts[:2] == [0, 0], "padding must add to height, width and channels, not to the batch")
    if any(amounts[6:]):
        need(fill == 0.0, "it must add zeros to the channels")
        height_and_width = _pad_spatial(x, amounts)
        return pad_channels(c, height_and_width, amounts[6], amounts[7])
    need(fill == 0.0 or not any(x.pad), "it pads what is padded with another number")
    c.b.map(unpadded(x))  # refuses anything but a map
    return replace(_pad_spatial(x, amounts), fill=fill)


def _least(q: QParams | None) -> float:
    """What no number is smaller than: of a grid, or in float32."""
    return float(np.finfo(np.float32).min) if q is None else float(np.float32(q.low))


def _pad_spatial(x: Operand, amounts: list[int]) -> Operand:
    """Pending, for the next window to take over."""
    top, bottom, left, right = (own + more for own, more in zip(x.pad, amounts[2:6], strict=True))
    n, h, w, channels = x.shape
    shape = (n, h + sum(amounts[2:4]), w + sum(amounts[4:6]), channels)
    return replace(x, shape=shape, pad=(top, bottom, left, right))
