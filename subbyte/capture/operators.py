"""The operator table: how each ATen operator becomes nodes. A new operator is a new row of RULES.

A rule takes the builder, the operator's arguments by their schema names, and the shape of its
result. Tensor arguments are Operands (they depend on the image) or torch tensors (they do not).
It returns the result, or raises Rejected with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from subbyte.capture.builder import Builder, Operand, Rejected

Arguments = Mapping[str, Any]
Shape = tuple[int, ...]
Rule = Callable[[Builder, Arguments, Shape], Operand]


def _need(condition: bool, reason: str) -> None:
    if not condition:
        raise Rejected(reason)


def _operand(x: Any) -> Operand:
    _need(isinstance(x, Operand), "its first tensor is a constant")
    return x


def _array(x: Any, what: str) -> np.ndarray:
    _need(isinstance(x, torch.Tensor), f"its {what} is computed from the image")
    return np.ascontiguousarray(x.detach().cpu().to(torch.float32).numpy())


def _vector(x: Any, what: str, size: int, default: float) -> np.ndarray:
    return np.full(size, default, np.float32) if x is None else _array(x, what)


def _pair(x: Any) -> list[int]:
    values = [x] if isinstance(x, int) else list(x)
    return values * 2 if len(values) == 1 else values


def _pads(a: Arguments, x: Operand, kernel: tuple[int, int]) -> list[int]:
    """The window's own padding and what a pad operator left on x, (t, b, l, r)."""
    padding = a["padding"]
    if padding == "valid":
        own = [0, 0, 0, 0]
    elif padding == "same":  # torch puts the odd zero last
        own = [side for k in kernel for side in ((k - 1) // 2, k - 1 - (k - 1) // 2)]
    else:
        own = [p for p in _pair(padding) for _ in range(2)]
    return [p + q for p, q in zip(own, x.pad)]


def _convolution(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = _operand(a["input"])
    _need(_pair(a["dilation"]) == [1, 1], "dilation must be 1")
    _need(not a.get("transposed", False), "transposed convolution")
    _need(x.fill == 0.0, "it reads a tensor that is padded with something else than zeros")
    weight = _array(a["weight"], "weight")
    _need(weight.ndim == 4, "only two-dimensional convolution")
    attrs = {
        "stride": _pair(a["stride"]),
        "pad": _pads(a, x, weight.shape[2:]),
        "groups": int(a["groups"]),
        "act": "none",
    }
    params = {
        "weight": np.ascontiguousarray(weight.transpose(0, 2, 3, 1)),
        "bias": _vector(a["bias"], "bias", len(weight), 0.0),
    }
    return Operand(b.emit("conv2d", [b.map(_unpadded(x))], attrs, params), shape)


def _unpadded(x: Operand) -> Operand:
    """x without its pending padding; only its shape before padding is that of a value."""
    if not any(x.pad):
        return x
    top, bottom, left, right = x.pad
    n, c, h, w = x.shape
    return Operand(x.value, (n, c, h - top - bottom, w - left - right))


def _max_pool2d(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = _operand(a["self"])
    _need(_pair(a["dilation"]) == [1, 1], "dilation must be 1")
    _need(not any(x.pad) or x.fill == -math.inf, "it reads a padded tensor")
    kernel = _pair(a["kernel_size"])
    stride = _pair(a["stride"]) if a["stride"] else kernel
    pads, value = _pads(a, x, (kernel[0], kernel[1])), b.map(_unpadded(x))
    for side in (0, 1):  # ceil_mode: windows that reach beyond the end
        reach = (shape[2 + side] - 1) * stride[side] + kernel[side] - b.shape(value)[side]
        pads[2 * side + 1] = max(pads[2 * side + 1], reach - pads[2 * side])
    attrs = {"kernel": kernel, "stride": stride, "pad": pads}
    return Operand(b.emit("max_pool2d", [value], attrs), shape)


def _pad(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x, pad = _operand(a["self"]), list(a["pad"])
    fill = float(a.get("value") or 0.0)
    _need(a.get("mode", "constant") == "constant", "padding must be constant")
    _need(not any(pad[4:]) and min(pad) >= 0, "padding must add to height and width")
    if not any(pad):
        return x
    _need(not any(x.pad) or x.fill == fill, "it pads a padded tensor with another value")
    b.map(_unpadded(x))  # refuses anything but a map
    left, right, top, bottom = (pad + [0, 0])[:4]
    t, bo, le, r = x.pad
    return Operand(x.value, shape, (t + top, bo + bottom, le + left, r + right), fill)


def _batch_norm(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = _operand(a["input"])
    value = b.map(x) if len(x.shape) == 4 else b.vector(x)
    size = b.shape(value)[-1]
    params = {
        "weight": _vector(a["weight"], "weight", size, 1.0),
        "bias": _vector(a["bias"], "bias", size, 0.0),
        "mean": _array(a["running_mean"], "mean"),
        "var": _array(a["running_var"], "variance"),
    }
    return Operand(b.emit("batch_norm", [value], {"eps": float(a["eps"])}, params), shape)


def _linear_layer(b: Builder, x: Any, weight: np.ndarray, bias: Any, shape: Shape) -> Operand:
    x = _operand(x)
    value = b.flat(x)
    source = b.shape(x.value)
    if len(source) == 3:  # torch flattened (C, H, W), the graph flattens (H, W, C)
        height, width, channels = source
        weight = weight.reshape(-1, channels, height, width).transpose(0, 2, 3, 1).reshape(len(weight), -1)
    params = {"weight": np.ascontiguousarray(weight), "bias": _vector(bias, "bias", len(weight), 0.0)}
    return Operand(b.emit("linear", [value], {"act": "none"}, params), shape)


def _linear(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return _linear_layer(b, a["input"], _array(a["weight"], "weight"), a["bias"], shape)


def _matmul(b: Builder, a: Arguments, shape: Shape) -> Operand:
    weight = _array(a.get("mat2", a.get("other")), "second operand")
    _need(weight.ndim == 2, "only a matrix as second operand")
    return _linear_layer(b, a["self"], weight.T, None, shape)


def _addmm(b: Builder, a: Arguments, shape: Shape) -> Operand:
    _need(a["alpha"] == 1 and a["beta"] == 1, "alpha and beta must be 1")
    bias = _array(a["self"], "bias")
    weight = _array(a["mat2"], "second operand").T
    bias = np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), (len(weight),)))
    return _linear_layer(b, a["mat1"], weight, torch.from_numpy(bias), shape)


def _activation(act: str, **required: Any) -> Rule:
    """An elementwise function; `required` are the only argument values it may have."""

    def rule(b: Builder, a: Arguments, shape: Shape) -> Operand:
        for name, value in required.items():
            _need(a[name] == value, f"{name} must be {value!r}, not {a[name]!r}")
        x = _operand(a["self"])
        return Operand(b.emit("activation", [b.plain(x)], {"act": act}), shape)

    return rule


def _clamp(b: Builder, a: Arguments, shape: Shape) -> Operand:
    low, high = a.get("min", a.get("min_val")), a.get("max", a.get("max_val"))
    act = {(0, None): "relu", (0, 6): "relu6"}.get((low, high))
    _need(act is not None, f"only the ranges 0..6 and 0.. are known, not {low}..{high}")
    x = _operand(a["self"])
    return Operand(b.emit("activation", [b.plain(x)], {"act": act}), shape)


def _add(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x, y = _operand(a["self"]), a["other"]
    _need(isinstance(y, Operand) and a["alpha"] == 1, "both operands must be tensors computed from the image")
    _need(x.shape == y.shape, f"operands must have equal shapes, not {list(x.shape)} and {list(y.shape)}")
    values = [b.plain(x), b.plain(y)]
    if b.shape(values[0]) != b.shape(values[1]):
        values = [b.map(x), b.map(y)] if len(shape) == 4 else [b.vector(x), b.vector(y)]
    return Operand(b.emit("add", values), shape)


#: x * f(x) as one activation
_SELF_GATED = {"sigmoid": "silu", "hard_sigmoid": "hard_swish"}


def _mul(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x, y = _operand(a["self"]), a["other"]
    _need(isinstance(y, Operand), "both operands must be tensors computed from the image")
    for value, gate in ((x, y), (y, x)):
        node = b.producers.get(gate.value)
        if node and node.op == "activation" and node.inputs == (value.value,) and value.shape == gate.shape:
            act = _SELF_GATED.get(node.attrs["act"])
            if act:
                return Operand(b.emit("activation", [b.plain(value)], {"act": act}), shape)
    for value, gate in ((x, y), (y, x)):
        if len(shape) == 4 and value.shape == shape and _is_gate(b, gate, shape):
            gate_map = gate.value if len(b.shape(gate.value)) == 3 else b.map(gate)
            return Operand(b.emit("mul", [b.map(value), gate_map]), shape)
    raise Rejected("only a map times one gate per channel, [N, C, H, W] x [N, C, 1, 1]")


def _is_gate(b: Builder, x: Operand, shape: Shape) -> bool:
    """x is one number per channel of a map of torch shape `shape`, broadcast or not."""
    c = shape[1]
    return b.shape(x.value) in ((1, 1, c), (c,)) and x.shape in (shape, (1, c, 1, 1)) and not any(x.pad)


def _expand(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = _operand(a["self"])
    if x.shape == shape:
        return x
    return Operand(b.map(x), shape)


def _global_pool(b: Builder, x: Operand, shape: Shape) -> Operand:
    source = b.shape(b.plain(x))
    _need(len(source) == 3 and x.shape[:2] == (1, source[2]), "only the mean over height and width")
    return Operand(b.emit("global_avg_pool", [x.value]), shape)


def _mean(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x, dims = _operand(a["self"]), a.get("dim") or []
    reduced = sorted(d % len(x.shape) for d in dims)
    _need(bool(reduced) and reduced == list(range(2, len(x.shape))), "only the mean over height and width")
    return _global_pool(b, x, shape)


def _adaptive_avg_pool2d(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = _operand(a["self"])
    if shape == x.shape:
        return x
    _need(shape[2:] == (1, 1), "only the output size 1")
    return _global_pool(b, x, shape)


def _avg_pool2d(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = _operand(a["self"])
    whole = tuple(_pair(a["kernel_size"])) == x.shape[2:] and not any(_pair(a["padding"]))
    _need(whole and a["divisor_override"] is None, "only over the whole map")
    return _global_pool(b, x, shape)


def _cat(b: Builder, a: Arguments, shape: Shape) -> Operand:
    parts = [_operand(x) for x in a["tensors"]]
    _need(a["dim"] % len(shape) == 1, "only along the channels")
    values = [b.map(x) if len(shape) == 4 else b.vector(x) for x in parts]
    return Operand(b.emit("concat", values), shape)


def _reshape(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = _operand(a["self"])
    _need(shape[0] == 1, "it mixes the batch with other dimensions")
    return Operand(b.plain(x), shape)


def _identity(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = _operand(a["self"] if "self" in a else a["input"])
    _need(not a.get("train", False), "it is in training mode")
    _need(a.get("dtype") in (None, torch.float32), "only float32")
    return x


#: ATen operator (any overload) to its rule.
RULES: dict[str, Rule] = {
    "conv2d": _convolution,
    "convolution": _convolution,
    "linear": _linear,
    "addmm": _addmm,
    "mm": _matmul,
    "matmul": _matmul,
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "relu": _activation("relu"),
    "relu6": _activation("relu6"),
    "hardtanh": _clamp,
    "clamp": _clamp,
    "clamp_min": _clamp,
    "silu": _activation("silu"),
    "hardswish": _activation("hard_swish"),
    "sigmoid": _activation("sigmoid"),
    "hardsigmoid": _activation("hard_sigmoid"),
    "gelu": _activation("gelu", approximate="none"),
    "tanh": _activation("tanh"),
    "leaky_relu": _activation("leaky_relu", negative_slope=0.01),
    "add": _add,
    "mul": _mul,
    "mean": _mean,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "avg_pool2d": _avg_pool2d,
    "max_pool2d": _max_pool2d,
    "max_pool2d_with_indices": _max_pool2d,
    "cat": _cat,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "view": _reshape,
    "_unsafe_view": _reshape,
    "reshape": _reshape,
    "flatten": _reshape,
    "squeeze": _reshape,
    "unsqueeze": _reshape,
    "expand": _expand,
    "clone": _identity,
    "contiguous": _identity,
    "alias": _identity,
    "detach": _identity,
    "dropout": _identity,
    "feature_dropout": _identity,
    "native_dropout": _identity,
    "to": _identity,
    "_to_copy": _identity,
}
