"""Rules for layers with weights, pooling and padding."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from subbyte.importers.onnx.rules.arguments import array, operand, vector
from subbyte.importers.rules.arguments import Arguments, Shape, need, pair, window_pads
from subbyte.importers.rules.builder import Builder, Operand
from subbyte.ir.limits import MAX_KERNEL


def convolution(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = operand(a["input"])
    need(not a.get("transposed", False), "transposed convolution")
    need(x.fill == 0.0, f"a convolution takes padding with zeros over, not with {x.fill:g}", x.origin)
    weight = array(a["weight"], "weight")
    need(weight.ndim == 4, "only two-dimensional convolution")
    attrs = {
        "stride": pair(a["stride"]),
        "pad": window_pads(a["padding"], x.pad, weight.shape[2:]),
        "groups": int(a["groups"]),
        "act": "none",
    }
    dilation = pair(a["dilation"])
    attrs |= {} if dilation == [1, 1] else {"dilation": dilation}
    params = {
        "weight": np.ascontiguousarray(weight.transpose(0, 2, 3, 1)),
        "bias": vector(a["bias"], "bias", len(weight), 0.0),
    }
    return Operand(b.emit("conv2d", [b.map(_unpadded(x))], attrs, params), shape)


def _size(x: Any) -> str:
    """ "3 x 3" of [3, 3] or 3."""
    return " x ".join(map(str, pair(x)))


def _unpadded(x: Operand) -> Operand:
    """x without its pending padding; only its shape before padding is that of a value."""
    if not any(x.pad):
        return x
    top, bottom, left, right = x.pad
    n, c, h, w = x.shape
    return replace(x, shape=(n, c, h - top - bottom, w - left - right), pad=(0, 0, 0, 0))


def max_pool2d(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = operand(a["self"])
    need(pair(a["dilation"]) == [1, 1], f"dilation must be 1, not {_size(a['dilation'])}")
    need(
        not any(x.pad) or x.fill == -math.inf,
        f"max pooling takes padding with -inf over, not with {x.fill:g}",
        x.origin,
    )
    kernel = pair(a["kernel_size"])
    stride = pair(a["stride"]) if a["stride"] else kernel
    pads, value = window_pads(a["padding"], x.pad, (kernel[0], kernel[1])), b.map(_unpadded(x))
    for side in (0, 1):  # ceil_mode: windows that reach beyond the end
        reach = (shape[2 + side] - 1) * stride[side] + kernel[side] - b.shape(value)[side]
        pads[2 * side + 1] = max(pads[2 * side + 1], reach - pads[2 * side])
    attrs = {"kernel": kernel, "stride": stride, "pad": pads}
    return Operand(b.emit("max_pool2d", [value], attrs), shape)


def pad(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x, sides = operand(a["self"]), [*a["pad"], 0, 0, 0, 0, 0, 0][:8]
    fill = float(a.get("value") or 0.0)
    mode = a.get("mode", "constant")
    need(len(x.shape) == 4, f"only maps are padded, not {list(x.shape)}")
    need(mode in ("constant", *_PAD_MODES), f"padding must be constant, reflect or edge, not {mode!r}")
    need(not any(sides[6:]) and min(sides) >= 0, f"padding must add to a map, not be {a['pad']}")
    if not any(sides):
        return x
    left, right, top, bottom, before, after = sides[:6]
    if mode != "constant":
        need(not (before or after), f"channels are padded with zeros, not {mode!r}")
        attrs = {"pad": [top, bottom, left, right], "mode": mode}
        return Operand(b.emit("pad", [b.map(x)], attrs), shape)
    if before or after:
        need(fill == 0.0, f"channels are padded with zeros, not with {fill:g}")
        wider = (1, shape[1], *x.shape[2:])
        x = Operand(_pad_channels(b, b.map(x), before, after), wider)
        return pad(b, {**a, "self": x, "pad": [left, right, top, bottom]}, shape)
    need(not any(x.pad) or x.fill == fill, "it pads a padded tensor with another value")
    b.map(_unpadded(x))  # refuses anything but a map
    t, bo, le, r = x.pad
    return replace(x, shape=shape, pad=(t + top, bo + bottom, le + left, r + right), fill=fill)


_PAD_MODES = ("reflect", "edge")


def _pad_channels(b: Builder, value: str, before: int, after: int) -> str:
    """Zeros beside the channels, which are columns while they are added."""
    height, width, channels = b.shape(value)
    need(
        max(before, after) < MAX_KERNEL, f"at most {MAX_KERNEL - 1} channels are added, not {before}, {after}"
    )
    value = b.reshaped(value, (height * width, channels, 1))
    value = b.emit("pad", [value], {"pad": [0, 0, before, after], "mode": "zero"})
    return b.reshaped(value, (height, width, channels + before + after))


def batch_norm(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = operand(a["input"])
    value = b.map(x) if len(x.shape) == 4 else b.vector(x)
    size = b.shape(value)[-1]
    params = {
        "weight": vector(a["weight"], "weight", size, 1.0),
        "bias": vector(a["bias"], "bias", size, 0.0),
        "mean": array(a["running_mean"], "mean"),
        "var": array(a["running_var"], "variance"),
    }
    return Operand(b.emit("batch_norm", [value], {"eps": float(a["eps"])}, params), shape)


def _linear_layer(b: Builder, x: Any, weight: np.ndarray, bias: Any, shape: Shape) -> Operand:
    x = operand(x)
    value = b.flat(x)
    source = b.shape(x.value)
    if len(source) == 3:  # torch flattened (C, H, W), the graph flattens (H, W, C)
        height, width, channels = source
        weight = weight.reshape(-1, channels, height, width).transpose(0, 2, 3, 1).reshape(len(weight), -1)
    params = {"weight": np.ascontiguousarray(weight), "bias": vector(bias, "bias", len(weight), 0.0)}
    return Operand(b.emit("linear", [value], {"act": "none"}, params), shape)


def linear(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return _linear_layer(b, a["input"], array(a["weight"], "weight"), a["bias"], shape)


def _global_pool(b: Builder, x: Operand, shape: Shape) -> Operand:
    source = b.shape(b.plain(x))
    need(len(source) == 3 and x.shape[:2] == (1, source[2]), "only over height and width of a map")
    return Operand(b.emit("global_avg_pool", [x.value]), shape)


def _need_spatial(x: Operand, dims: Any) -> None:
    rank = len(x.shape)
    reduced = sorted(d % rank for d in dims or range(rank))
    need(reduced == list(range(2, rank)), f"only over height and width, not over dimensions {reduced}")


def mean(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = operand(a["self"])
    _need_spatial(x, a.get("dim"))
    return _global_pool(b, x, shape)


def _global_max(b: Builder, x: Operand, shape: Shape) -> Operand:
    value = b.map(x)
    kernel = list(b.shape(value)[:2])
    attrs = {"kernel": kernel, "stride": [1, 1], "pad": [0, 0, 0, 0]}
    return Operand(b.emit("max_pool2d", [value], attrs), shape)


def amax(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = operand(a["self"])
    _need_spatial(x, a["dim"])
    return _global_max(b, x, shape)
