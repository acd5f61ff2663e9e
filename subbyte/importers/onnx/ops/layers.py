"""Layers with weights, normalization and pooling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from subbyte.importers.onnx.values import Argument, Call, Constant, One, Stored
from subbyte.importers.rules import convolutions, elementwise, matrices, norms, pools
from subbyte.importers.rules.arguments import Rule, need
from subbyte.importers.rules.operands import Operand, seen
from subbyte.importers.rules.strides import Shape


def _window(
    c: Call, x: Operand, kernel: list[int], fill: float
) -> tuple[Operand, list[int], list[int], Shape]:
    """x with the window's own padding, strides, dilations, and height and width of the result."""
    need(len(x.shape) == 4, f"only windows over maps are known, not over {list(x.shape)}")
    need(min(kernel, default=0) >= 1, f"its window is {kernel!r:.80}")
    strides, dilations = c.integers("strides", [1, 1], 2), c.integers("dilations", [1, 1], 2)
    need(min(strides) >= 1 and min(dilations) >= 1, f"its strides or dilations are {strides}, {dilations}")
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    sides = _sides(c, x.shape[2:], reach, strides)
    need(min(sides) >= 0, f"its pads are {sides}")
    if any(sides):
        need(not any(x.pad) or x.fill == fill, "it pads what is padded with another value", x.origin)
        top, left, bottom, right = sides
        before = x.pad
        pad = (before[0] + top, before[1] + bottom, before[2] + left, before[3] + right)
        n, channels, height, width = x.shape
        x = replace(x, shape=(n, channels, height + top + bottom, width + left + right), pad=pad, fill=fill)
    up = [s - 1 if c.integer("ceil_mode", 0) else 0 for s in strides]
    size = tuple(
        (n - r + u) // s + 1 for n, r, s, u in zip(x.shape[2:], reach, strides, up, strict=True)
    )  # fmt: skip
    need(min(size) >= 1, f"its window {reach} is larger than what it slides over")
    return x, strides, dilations, size


def _sides(c: Call, shape: Shape, reach: list[int], strides: list[int]) -> list[int]:
    """(top, left, bottom, right) that a node pads itself."""
    auto = c.text("auto_pad", "NOTSET")
    if auto == "NOTSET":
        return c.integers("pads", [0, 0, 0, 0], 4)
    if auto == "VALID":
        return [0, 0, 0, 0]
    need(auto in ("SAME_UPPER", "SAME_LOWER"), f"its auto_pad is {auto!r:.80}")
    total = [max((-(-n // s) - 1) * s + r - n, 0) for n, r, s in zip(shape, reach, strides, strict=True)]
    less, more = [n // 2 for n in total], [n - n // 2 for n in total]
    return [*less, *more] if auto == "SAME_UPPER" else [*more, *less]


def convolution(c: Call, x: Operand, weight: Constant, bias: Constant | None) -> Operand:
    """The layer of a node's attributes."""
    array = weight.array
    need(array.ndim == 4, "only two-dimensional convolution")
    kernel = c.integers("kernel_shape", list(array.shape[2:]), 2)
    need(tuple(kernel) == array.shape[2:], f"its kernel is {kernel}, its weights are {list(array.shape)}")
    x, strides, dilations, size = _window(c, x, kernel, 0.0)
    arguments = {
        "input": x,
        "weight": array,
        "bias": None if bias is None else _vector(bias.array, len(array)),
        "stride": strides,
        "padding": 0,
        "dilation": dilations,
        "groups": c.integer("group", 1),
    }
    result = convolutions.convolution(c.b, arguments, (1, len(array), *size))
    _store(c, result, weight, bias)
    return result


def _vector(bias: np.ndarray, size: int) -> np.ndarray:
    need(bias.size in (1, size), f"its bias is {list(bias.shape)}")
    return np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), (size,)), np.float32)


def _store(c: Call, result: Operand, weight: Constant, bias: Constant | None) -> None:
    """Notes how weights [O, ...] are stored that have one scale per output channel."""
    if weight.scale is None:
        return
    scale = weight.scale.reshape(len(weight.scale), -1)
    if not (scale == scale[:, :1]).all():
        return  # scales of blocks: the layer computes with real numbers
    codes = None if bias is None or bias.codes is None else bias.codes.reshape(-1)
    kept = None if codes is None or codes.size != len(scale) else codes.astype(np.int32)
    c.t.stored[result.value] = Stored(np.ascontiguousarray(scale[:, 0], np.float32), weight.bits, kept)


def linear(c: Call, x: Operand, weight: Constant, bias: Constant | None) -> Operand:
    """weight: [O, I]."""
    array = weight.array
    need(array.ndim == 2, "only a matrix as weights")
    need(x.shape[-1:] == array.shape[1:], f"its weights {list(array.shape)} do not fit {list(x.shape)}")
    vector = None if bias is None else _vector(bias.array, len(array))
    arguments = {"input": x, "weight": array, "bias": vector}
    result = matrices.linear(c.b, arguments, (*x.shape[:-1], len(array)))
    _store(c, result, weight, bias)
    return result


def _in_one_row(c: Call) -> Call:
    """A window over sequences [N, C, L] as one over maps of one row; any other as it is."""
    x = c.given(0)
    if not isinstance(x, Operand) or len(x.shape) != 3:
        return c
    before = {"kernel_shape": [1], "strides": [1], "dilations": [1], "output_padding": [0]}
    attrs = dict(c.node.attrs)
    for name, first in before.items():
        if name in attrs:
            attrs[name] = [*first, *c.integers(name, [], 1)]
    if "pads" in attrs:
        start, end = c.integers("pads", [], 2)
        attrs["pads"] = [0, start, 0, end]
    inputs = list(c.inputs)
    x = c.b.settled(x)
    inputs[0] = seen(x.value, x.view.unsqueeze(2))
    weight = c.given(1)
    if isinstance(weight, Constant) and weight.array.ndim == 3:
        inputs[1] = weight.moved(lambda array: array[:, :, None])
    return Call(c.t, replace(c.node, attrs=attrs), tuple(inputs))


def _over_maps(row: One) -> One:
    """A row for windows over maps, for windows over sequences, too."""

    def wrapped(c: Call) -> Argument:
        wide = _in_one_row(c)
        made = row(wide)
        return made if wide is c or isinstance(made, Constant) else seen(made.value, made.view.squeeze(2))

    return wrapped


def _conv(c: Call) -> Argument:
    bias = None if c.given(2) is None else c.constant(2, "bias")
    return convolution(c, c.operand(), c.constant(1, "weight"), bias)


def _conv_transpose(c: Call) -> Argument:
    x, weight = c.operand(), c.constant(1, "weight").array
    need(len(x.shape) == weight.ndim == 4, "only transposed convolutions of maps and sequences are known")
    kernel = c.integers("kernel_shape", list(weight.shape[2:]), 2)
    need(tuple(kernel) == weight.shape[2:], f"its kernel is {kernel}, its weights are {list(weight.shape)}")
    strides, dilations = c.integers("strides", [1, 1], 2), c.integers("dilations", [1, 1], 2)
    extra = c.integers("output_padding", [0, 0], 2)
    groups = c.integer("group", 1)
    need(min(*strides, *dilations, groups) >= 1 and min(extra) >= 0, "its attributes are negative or zero")
    need(weight.shape[0] == x.shape[1] and x.shape[1] % groups == 0, "its weights do not fit its input")
    c.t.room -= weight.size * math.prod(strides)
    need(c.t.room >= 0, "its phases have too many weights")
    whole = [
        (n - 1) * s + (k - 1) * d + 1 + e
        for n, s, k, d, e in zip(x.shape[2:], strides, kernel, dilations, extra, strict=True)
    ]
    begins, size = _kept(c, whole, x.shape[2:], strides)
    need(min(size) >= 1 and min(begins) >= 0, f"it keeps {size} of {whole}")
    bias = None if c.given(2) is None else _vector(c.constant(2, "bias").array, weight.shape[1] * groups)
    arguments = {
        "input": x, "weight": weight, "bias": bias,
        "stride": strides, "padding": begins, "dilation": dilations, "groups": groups,
    }  # fmt: skip
    return convolutions.transposed(c.b, arguments, (1, weight.shape[1] * groups, *size))


def _kept(c: Call, whole: list[int], source: Shape, strides: list[int]) -> tuple[list[int], list[int]]:
    """Where what a transposed convolution makes begins, and how large it is, once its pads are taken off."""
    auto = c.text("auto_pad", "NOTSET")
    if "output_shape" in c.node.attrs:
        size = c.integers("output_shape", [], 2)
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        size = [n * s for n, s in zip(source, strides, strict=True)]
    else:
        need(auto in ("NOTSET", "VALID"), f"its auto_pad is {auto!r:.80}")
        top, left, bottom, right = c.integers("pads", [0, 0, 0, 0], 4) if auto == "NOTSET" else [0, 0, 0, 0]
        return [top, left], [whole[0] - top - bottom, whole[1] - left - right]
    total = [n - m for n, m in zip(whole, size, strict=True)]
    return [n // 2 if auto == "SAME_UPPER" else n - n // 2 for n in total], size


def _gemm(c: Call) -> Argument:
    weight = c.constant(1, "weight")
    alpha, beta = c.number("alpha", 1.0), c.number("beta", 1.0)
    need(not c.integer("transA", 0), "it transposes what depends on the image")
    if not c.integer("transB", 0):
        need(weight.array.ndim == 2, "only a matrix as weights")
        weight = weight.moved(np.transpose)
    if alpha != 1.0:
        weight = Constant(np.asarray(weight.array * np.float32(alpha)))
    bias = None if c.given(2) is None else c.constant(2, "bias")
    if bias is not None and beta != 1.0:
        bias = Constant(np.asarray(bias.array * np.float32(beta)))
    return linear(c, c.operand(), weight, bias)


def _matmul(c: Call) -> Argument:
    y = c.argument(1)
    if isinstance(y, Constant) and y.array.ndim == 2:
        return linear(c, c.operand(), y.moved(np.transpose), None)
    x = c.argument(0)
    a, b = (z.array.shape if isinstance(z, Constant) else z.shape for z in (x, y))
    need(len(a) >= 2 and len(b) >= 2 and a[-1] == b[-2], f"it multiplies {list(a)} and {list(b)}")
    shape = (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])
    return matrices.matmul(c.b, {"self": c.plain(0), "other": c.plain(1)}, shape)


def _numbers(c: Call, index: int, what: str, shape: Shape, default: float) -> np.ndarray:
    """A constant, broadcast; `default` where it is left out."""
    if c.given(index) is None:
        return np.full(shape, default, np.float32)
    array = np.asarray(c.constant(index, what).array, np.float32)
    return np.ascontiguousarray(np.broadcast_to(array, shape))


def _layer_norm(c: Call) -> Argument:
    x = c.operand()
    rank, axis = len(x.shape), c.integer("axis", -1)
    need(-rank <= axis < rank and axis % rank > 0, f"its axis is {axis}")
    need(len(c.node.outputs) == 1, "only its first result is known")
    over = x.shape[axis % rank :]
    arguments = {
        "input": x,
        "normalized_shape": over,
        "weight": _numbers(c, 1, "scale", over, 1.0),
        "bias": _numbers(c, 2, "bias", over, 0.0),
        "eps": c.number("epsilon", 1e-5),
    }
    return norms.layer_norm(c.b, arguments, x.shape)


def _rms_norm(c: Call) -> Argument:
    x = c.operand()
    rank, axis = len(x.shape), c.integer("axis", -1)
    need(-rank <= axis < rank and axis % rank > 0, f"its axis is {axis}")
    over = x.shape[axis % rank :]
    weight = _numbers(c, 1, "scale", over, 1.0)
    arguments = {"input": x, "normalized_shape": over, "weight": weight, "eps": c.number("epsilon", 1e-5)}
    return norms.rms_norm(c.b, arguments, x.shape)


def _instance_norm(c: Call) -> Argument:
    return _grouped(c, c.operand().shape[1])


def _group_norm(c: Call) -> Argument:
    return _grouped(c, c.integer("num_groups", 0))


def _grouped(c: Call, groups: int) -> Argument:
    """Weights of each channel, or of each group as before opset 21."""
    x = c.operand()
    need(len(x.shape) in (3, 4), f"only maps and sequences are normalized so, not {list(x.shape)}")
    channels = x.shape[1]
    need(groups >= 1 and channels % groups == 0, f"{channels} channels are no {groups} groups")
    arrays = []
    for i, what in ((1, "scale"), (2, "bias")):
        array = np.asarray(c.constant(i, what).array, np.float32).reshape(-1)
        need(array.size in (groups, channels), f"its {what} has {array.size} numbers")
        arrays.append(np.repeat(array, channels // array.size))
    named = {"weight": arrays[0], "bias": arrays[1], "num_groups": groups, "eps": c.number("epsilon", 1e-5)}
    return norms.group_norm(c.b, {"input": x, **named}, x.shape)


def _lp_norm(c: Call) -> Argument:
    """x over its norm along an axis."""
    x, axis = c.operand(), c.integer("axis", -1)
    need(-len(x.shape) <= axis < len(x.shape), f"its axis is {axis}")
    kept = tuple(1 if i == axis % len(x.shape) else n for i, n in enumerate(x.shape))
    size = norms.vector_norm(c.b, {"self": x, "p": c.integer("p", 2), "dim": [axis]}, kept)
    return elementwise.div(c.b, {"self": x, "other": size}, x.shape)


def _batch_norm(c: Call) -> Argument:
    x = c.operand()
    need(not c.integer("training_mode", 0), "it is in training mode")
    names = ("weight", "bias", "running_mean", "running_var")
    arrays = {name: c.constant(i + 1, name.replace("_", " ")).array for i, name in enumerate(names)}
    return norms.batch_norm(c.b, {"input": x, **arrays, "eps": c.number("epsilon", 1e-5)}, x.shape)


def _max_pool(c: Call) -> Argument:
    kernel = c.integers("kernel_shape", [], 2)
    x, strides, dilations, size = _window(c, c.operand(), kernel, -math.inf)
    need(len(c.node.outputs) == 1, "only its first result is known")
    arguments = {
        "self": x, "kernel_size": kernel, "stride": strides, "padding": 0, "dilation": dilations
    }  # fmt: skip
    return pools.max_pool2d(c.b, arguments, (*x.shape[:2], *size))


def _average_pool(c: Call) -> Argument:
    kernel, x = c.integers("kernel_shape", [], 2), c.operand()
    need(
        len(x.shape) == 4 and min(kernel) >= 1, f"only windows over maps are known, not over {list(x.shape)}"
    )
    strides = c.integers("strides", [1, 1], 2)
    need(min(strides) >= 1 and c.integers("dilations", [1, 1], 2) == [1, 1], "its windows have gaps")
    top, left, bottom, right = _sides(c, x.shape[2:], kernel, strides)
    need(min(top, left, bottom, right) >= 0, "its pads are negative")
    if tuple(kernel) == x.shape[2:] and not any((top, left, bottom, right)):
        return pools.mean(c.b, {"self": x, "dim": [2, 3]}, (*x.shape[:2], 1, 1))
    counted = bool(c.integer("count_include_pad", 0))
    if c.integer("ceil_mode", 0):  # windows that reach beyond the end
        need(not counted, "its last windows reach beyond what it counts")
        beyond = []
        for n, k, s, before, after in zip(
            x.shape[2:], kernel, strides, (top, left), (bottom, right), strict=True
        ):
            last = -(-(n + before + after - k) // s) * s
            last -= s if last >= n + before else 0  # none starts in the padding behind
            beyond.append(max(after, last + k - n - before))
        bottom, right = beyond
    pads = [top, bottom, left, right]
    attrs = {"kernel": kernel, "stride": strides, "pad": pads, "count_pad": int(counted)}
    value = c.b.emit("avg_pool2d", [c.b.map(x)], attrs)
    height, width, channels = c.b.shape(value)
    return c.b.made(value, (1, channels, height, width))


def _global(rule: Rule) -> One:
    """Over all positions."""

    def row(c: Call) -> Argument:
        x = c.operand()
        need(len(x.shape) >= 3, f"only over maps, not over {list(x.shape)}")
        axes = list(range(2, len(x.shape)))
        return rule(c.b, {"self": x, "dim": axes}, (*x.shape[:2], *(1 for _ in axes)))

    return row


def _reduced(c: Call, x: Operand) -> tuple[list[int], Shape]:
    axes = c.axes(len(x.shape))
    chosen = list(range(len(x.shape))) if axes is None else axes
    keeps = c.integer("keepdims", 1)
    shape = tuple(1 if i in chosen else n for i, n in enumerate(x.shape) if keeps or i not in chosen)
    return chosen, shape


def _reduce(rule: Callable[..., Operand], **arguments: Any) -> One:
    """Over any axes."""

    def row(c: Call) -> Argument:
        x = c.operand()
        axes, shape = _reduced(c, x)
        return x if not axes else rule(c.b, {"self": x, "dim": axes, **arguments}, shape)

    return row


ROWS: dict[str, One] = {
    "Conv": _over_maps(_conv),
    "ConvTranspose": _over_maps(_conv_transpose),
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LpNormalization": _lp_norm,
    "MaxPool": _over_maps(_max_pool),
    "AveragePool": _over_maps(_average_pool),
    "GlobalAveragePool": _global(pools.mean),
    "GlobalMaxPool": _global(pools.amax),
    "ReduceMean": _reduce(pools.mean),
    "ReduceSum": _reduce(pools.total),
    "ReduceMax": _reduce(pools.amax),
    "ReduceMin": _reduce(pools.amin),
    "ReduceL1": _reduce(norms.vector_norm, p=1),
    "ReduceL2": _reduce(norms.vector_norm, p=2),
}
