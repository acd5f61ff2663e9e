"""Layers with weights, normalization and pooling."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from subbyte.importers.onnx.rules import layers
from subbyte.importers.onnx.values import Argument, Call, Constant, One, Stored
from subbyte.importers.rules.arguments import Shape, need
from subbyte.importers.rules.builder import Operand


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
    rounded = math.ceil if c.integer("ceil_mode", 0) else math.floor
    size = tuple(rounded((n - r) / s) + 1 for n, r, s in zip(x.shape[2:], reach, strides, strict=True))
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
    result = layers.convolution(c.b, arguments, (1, len(array), *size))
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
    need(x.shape == (1, array.shape[1]), f"its weights {list(array.shape)} do not fit {list(x.shape)}")
    vector = None if bias is None else _vector(bias.array, len(array))
    arguments = {"input": x, "weight": array, "bias": vector}
    result = layers.linear(c.b, arguments, (1, len(array)))
    _store(c, result, weight, bias)
    return result


def _conv(c: Call) -> Argument:
    bias = None if c.given(2) is None else c.constant(2, "bias")
    return convolution(c, c.operand(), c.constant(1, "weight"), bias)


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
    weight = c.constant(1, "second operand")
    need(weight.array.ndim == 2, "only a matrix as second operand")
    return linear(c, c.operand(), weight.moved(np.transpose), None)


def _batch_norm(c: Call) -> Argument:
    x = c.operand()
    need(not c.integer("training_mode", 0), "it is in training mode")
    names = ("weight", "bias", "running_mean", "running_var")
    arrays = {name: c.constant(i + 1, name.replace("_", " ")).array for i, name in enumerate(names)}
    return layers.batch_norm(c.b, {"input": x, **arrays, "eps": c.number("epsilon", 1e-5)}, x.shape)


def _max_pool(c: Call) -> Argument:
    kernel = c.integers("kernel_shape", [], 2)
    x, strides, dilations, size = _window(c, c.operand(), kernel, -math.inf)
    need(len(c.node.outputs) == 1, "only its first result is known")
    arguments = {
        "self": x, "kernel_size": kernel, "stride": strides, "padding": 0, "dilation": dilations
    }  # fmt: skip
    return layers.max_pool2d(c.b, arguments, (*x.shape[:2], *size))


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
        return layers.mean(c.b, {"self": x, "dim": [2, 3]}, (*x.shape[:2], 1, 1))
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
    return Operand(value, c.b.outside(c.b.shape(value)))


def _global_average_pool(c: Call) -> Argument:
    x = c.operand()
    need(len(x.shape) == 4, f"only over maps, not over {list(x.shape)}")
    return layers.mean(c.b, {"self": x, "dim": [2, 3]}, (*x.shape[:2], 1, 1))


def _global_max_pool(c: Call) -> Argument:
    x = c.operand()
    need(len(x.shape) == 4, f"only over maps, not over {list(x.shape)}")
    return layers.amax(c.b, {"self": x, "dim": [2, 3]}, (*x.shape[:2], 1, 1))


def _reduced(c: Call, x: Operand) -> tuple[list[int], Shape]:
    axes = c.axes(len(x.shape))
    chosen = list(range(len(x.shape))) if axes is None else axes
    keeps = c.integer("keepdims", 1)
    shape = tuple(1 if i in chosen else n for i, n in enumerate(x.shape) if keeps or i not in chosen)
    return chosen, shape


def _reduce_mean(c: Call) -> Argument:
    x = c.operand()
    axes, shape = _reduced(c, x)
    return layers.mean(c.b, {"self": x, "dim": axes}, shape)


def _reduce_max(c: Call) -> Argument:
    x = c.operand()
    axes, shape = _reduced(c, x)
    return layers.amax(c.b, {"self": x, "dim": axes}, shape)


ROWS: dict[str, One] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "ReduceMean": _reduce_mean,
    "ReduceMax": _reduce_max,
}
