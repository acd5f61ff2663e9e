"""Rules for activations, sums, products, concatenation and changes of shape."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from subbyte.importers.onnx.rules.arguments import Rule, array, operand
from subbyte.importers.rules.arguments import Arguments, Shape, need
from subbyte.importers.rules.builder import Builder, Operand
from subbyte.ir.activations import activation as act_text


def activation(name: str, *parameters: str) -> Rule:
    """An elementwise function; `parameters` are the arguments that are its parameters, in its order."""

    def rule(b: Builder, a: Arguments, shape: Shape) -> Operand:
        return _activate(b, a["self"], act_text(name, *(_number(a[p], p) for p in parameters)), shape)

    return rule


def _activate(b: Builder, x: Any, act: str, shape: Shape) -> Operand:
    return Operand(b.emit("activation", [b.plain(operand(x))], {"act": act}), shape)


def _number(x: Any, what: str) -> float:
    need(isinstance(x, (int, float)), f"its {what} is not a number")
    return float(x)


def gelu(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return _activate(b, a["self"], {"none": "gelu", "tanh": "gelu_tanh"}[a["approximate"]], shape)


def prelu(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """One slope for all is a leaky ReLU; more are one for each channel."""
    slope, x = array(a["weight"], "slope"), operand(a["self"])
    if slope.size and (slope == slope.flat[0]).all():
        return _activate(b, x, act_text("leaky_relu", float(slope.flat[0])), shape)
    value = b.map(x) if len(shape) == 4 else b.vector(x)
    slopes = _per_channel(slope, b.shape(value)[-1], shape)
    return Operand(b.emit("prelu", [value], None, {"slope": slopes}), shape)


def celu(b: Builder, a: Arguments, shape: Shape) -> Operand:
    alpha = _number(a["alpha"], "alpha")
    need(alpha > 0, f"alpha must be positive, not {alpha}")
    return _activate(b, a["self"], act_text("elu", alpha, 1.0, 1.0 / alpha), shape)


#: log(1 + e^t) and t, its continuation in torch, are the same float32 numbers from here on.
_LINEAR_FROM = 17.0


def softplus(b: Builder, a: Arguments, shape: Shape) -> Operand:
    threshold = _number(a["threshold"], "threshold")
    need(threshold >= _LINEAR_FROM, f"threshold must be {_LINEAR_FROM:g} or more, not {threshold:g}")
    return _activate(b, a["self"], act_text("softplus", _number(a["beta"], "beta")), shape)


_LARGEST = float(np.finfo(np.float32).max)


def clamp(b: Builder, a: Arguments, shape: Shape) -> Operand:
    low, high = a.get("min", a.get("min_val")), a.get("max", a.get("max_val"))
    low = -_LARGEST if low is None else max(_number(low, "min"), -_LARGEST)
    high = _LARGEST if high is None else min(_number(high, "max"), _LARGEST)
    need(low <= high, f"min {low:g} is above max {high:g}")
    known = {(0.0, _LARGEST): "relu", (0.0, 6.0): "relu6"}
    return _activate(b, a["self"], known.get((low, high)) or act_text("clip", low, high), shape)


def add(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x, y = a["self"], a["other"]
    need(a["alpha"] == 1, "alpha must be 1")
    if not isinstance(x, Operand) or not isinstance(y, Operand):
        x, constant = (x, y) if isinstance(x, Operand) else (y, x)
        return _affine(b, x, 1.0, constant, shape)
    return both(b, "add", x, y, shape)


def both(b: Builder, op: str, x: Operand, y: Operand, shape: Shape) -> Operand:
    """An operation of two tensors of one shape."""
    need(x.shape == y.shape, f"operands must have equal shapes, not {list(x.shape)} and {list(y.shape)}")
    values = [b.plain(x), b.plain(y)]
    if b.shape(values[0]) != b.shape(values[1]):
        values = [b.map(x), b.map(y)] if len(shape) == 4 else [b.vector(x), b.vector(y)]
    return Operand(b.emit(op, values), shape)


def sub(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x, y = a["self"], a["other"]
    need(a["alpha"] == 1, "alpha must be 1")
    if isinstance(x, Operand) and isinstance(y, Operand):
        return both(b, "subtract", x, y, shape)
    if isinstance(x, Operand):
        return _affine(b, x, 1.0, -_constant(y), shape)
    return _affine(b, y, -1.0, x, shape)


def div(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return _affine(b, operand(a["self"]), 1.0 / _constant(a["other"]), 0.0, shape)


#: Added to the variance 1 - EPS it gives exactly 1, also in float32.
_EPS = 2.0**-10


def _affine(b: Builder, x: Operand, scale: Any, shift: Any, shape: Shape) -> Operand:
    """scale * x + shift with constants that are equal for all positions: a batch_norm."""
    need(x.shape == shape, "a constant must not have more dimensions than the tensor it is applied to")
    value = b.map(x) if len(shape) == 4 else b.vector(x)
    size = b.shape(value)[-1]
    params = {
        "weight": _per_channel(scale, size, shape),
        "bias": _per_channel(shift, size, shape),
        "mean": np.zeros(size, np.float32),
        "var": np.full(size, 1.0 - _EPS, np.float32),
    }
    return Operand(b.emit("batch_norm", [value], {"eps": _EPS}, params), shape)


def _constant(x: Any) -> np.ndarray:
    """A number or a tensor that does not depend on the image, as float64."""
    need(isinstance(x, (int, float, np.ndarray)), "its second operand must be a constant")
    return np.asarray(x, np.float64)


def _per_channel(x: Any, size: int, shape: Shape) -> np.ndarray:
    constant = _constant(x)
    dims = (1,) * (len(shape) - constant.ndim) + constant.shape
    need(all(n == 1 for i, n in enumerate(dims) if i != 1), "a constant must have one value per channel")
    return np.ascontiguousarray(np.broadcast_to(constant.reshape(-1), (size,)), np.float32)


#: x * f(x) as one activation
_SELF_GATED = {"sigmoid": "silu", "hard_sigmoid": "hard_swish"}


def mul(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x, y = a["self"], a["other"]
    if not isinstance(x, Operand) or not isinstance(y, Operand):
        x, constant = (x, y) if isinstance(x, Operand) else (y, x)
        return _affine(b, x, constant, 0.0, shape)
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
    return both(b, "multiply", x, y, shape)


def _is_gate(b: Builder, x: Operand, shape: Shape) -> bool:
    """x is one number per channel of a map of torch shape `shape`, broadcast or not."""
    c = shape[1]
    return b.shape(x.value) in ((1, 1, c), (c,)) and x.shape in (shape, (1, c, 1, 1)) and not any(x.pad)


def expand(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = operand(a["self"])
    if x.shape == shape:
        return x
    return Operand(b.map(x), shape)


def cat(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """Along the channels; of what is no map, along the first axis, where elements follow each other."""
    parts, axis = [operand(x) for x in a["tensors"]], a["dim"] % len(shape)
    if len(shape) == 4:
        need(axis == 1, f"only along the channels, not along dimension {axis}")
        return Operand(b.emit("concat", [b.map(x) for x in parts]), shape)
    need(math.prod(shape[:axis]) == 1, f"only along the first dimension, not along dimension {axis}")
    values = [b.vector(replace(x, shape=(1, math.prod(x.shape)))) for x in parts]
    return Operand(b.emit("concat", values), shape)


def reshape(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = operand(a["self"])
    need(shape[0] == 1, "it mixes the batch with other dimensions")
    return Operand(b.plain(x), shape)


def neg(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return _affine(b, operand(a["self"]), -1.0, 0.0, shape)
