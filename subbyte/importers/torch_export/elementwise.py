"""Rules for activations, sums, products, concatenation and changes of shape."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from subbyte.importers.rules.arguments import Arguments, Shape, need
from subbyte.importers.rules.builder import Rejected
from subbyte.importers.torch_export.arguments import Rule, array, operand
from subbyte.importers.torch_export.builder import Builder, Operand, seen
from subbyte.importers.torch_export.strides import significant
from subbyte.ir.activations import activation as act_text
from subbyte.ir.limits import MAX_EXTENT


def activation(name: str, *parameters: str) -> Rule:
    """An elementwise function; `parameters` are the arguments that are its parameters, in its order."""

    def rule(b: Builder, a: Arguments, shape: Shape) -> Operand:
        return _activate(b, a["self"], act_text(name, *(_number(a[p], p) for p in parameters)), shape)

    return rule


def _activate(b: Builder, x: Any, act: str, shape: Shape) -> Operand:
    plain = b.plain(operand(x))
    return replace(plain, value=b.emit("activation", [plain.value], {"act": act}))


def _number(x: Any, what: str) -> float:
    need(isinstance(x, (int, float)), f"its {what} is not a number")
    return float(x)


def gelu(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return _activate(b, a["self"], {"none": "gelu", "tanh": "gelu_tanh"}[a["approximate"]], shape)


def prelu(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """One slope for all is a leaky ReLU; more are one for each channel, torch's second axis."""
    weight = array(a["weight"], "slope").reshape(-1)
    slopes = np.unique(weight)
    if len(slopes) == 1:
        return _activate(b, a["self"], act_text("leaky_relu", float(slopes[0])), shape)
    x = operand(a["self"])
    value = b.map(x) if len(shape) == 4 else b.vector(x)
    return b.made(b.emit("prelu", [value], None, {"slope": weight}), shape)


def rrelu(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """In evaluation its slope is the mean of those that training draws from."""
    slope = (_number(a["lower"], "lower") + _number(a["upper"], "upper")) / 2
    return _activate(b, a["self"], act_text("leaky_relu", slope), shape)


#: (alpha, scale) of arXiv 1706.02515
_SELU = (1.6732632423543772, 1.0507009873554805)


def selu(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return _activate(b, a["self"], act_text("elu", *_SELU, 1.0), shape)


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
    return _both(b, "add", x, y, shape)


def _both(b: Builder, op: str, x: Operand, y: Operand, shape: Shape) -> Operand:
    """An operation of two operands, of which one may have to be repeated along some axes."""
    if x.shape == y.shape == shape and not (any(x.pad) or any(y.pad)):
        same = b.plain(x), b.plain(y)
        if len({(p.strides, p.folded, b.shape(p.value)) for p in same}) == 1:
            return replace(same[0], value=b.emit(op, [p.value for p in same]))
        x, y = same
    if len(shape) == 2 and shape[0] == 1 and x.shape == y.shape:
        return b.last(b.emit(op, [b.vector(x), b.vector(y)]), shape)
    whole = b.settled(b.plain(x if x.shape == shape else y if y.shape == shape else _expanded(b, x, shape)))
    if len(b.shape(whole.value)) != 3:
        whole = b.last(b.rows(whole), shape)
    order = [axis for axis, _, _ in significant(whole.view)]
    order += [axis for axis in range(len(shape)) if axis not in order]
    size = b.shape(whole.value)
    values = []
    for part in (b.settled(x), b.settled(y)):
        if part.shape == shape and part.strides == whole.strides and b.shape(part.value) == size:
            values.append(part.value)
        else:
            values.append(b.ordered(part, part.view.expand(shape).permute(order), size))
    return replace(whole, value=b.emit(op, values))


def _expanded(b: Builder, x: Operand, shape: Shape) -> Operand:
    return seen(x.value, b.settled(x).view.expand(shape))


def sub(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x, y = a["self"], a["other"]
    need(a["alpha"] == 1, "alpha must be 1")
    if isinstance(x, Operand) and isinstance(y, Operand):
        return _both(b, "subtract", x, y, shape)
    if isinstance(x, Operand):
        return _affine(b, x, 1.0, -_constant(y), shape)
    return _affine(b, y, -1.0, x, shape)


def rsub(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return sub(b, {**a, "self": a["other"], "other": a["self"]}, shape)


def square(b: Builder, a: Arguments, shape: Shape) -> Operand:
    exponent = a.get("exponent", 2)
    need(exponent == 2, f"only squares are known, not the power of {exponent}")
    x = b.plain(operand(a["self"]))
    return replace(x, value=b.emit("multiply", [x.value, x.value]))


def div(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return _affine(b, operand(a["self"]), 1.0 / _constant(a["other"]), 0.0, shape)


#: Added to the variance 1 - EPS it gives exactly 1, also in float32.
_EPS = 2.0**-10


def _affine(b: Builder, x: Operand, scale: Any, shift: Any, shape: Shape) -> Operand:
    """scale * x + shift with constants: a batch_norm of channels, or of elements where positions differ."""
    need(x.shape == shape, "a constant must not have more dimensions than the tensor it is applied to")
    plain = b.settled(b.plain(x))
    made = b.shape(plain.value)
    per_element = [_elements(constant, plain.view, made) for constant in (scale, shift)]
    per_channel = [constant[0] if (constant == constant[0]).all() else None for constant in per_element]
    value = plain.value
    if any(constant is None for constant in per_channel):
        count = int(np.prod(made))
        need(count <= MAX_EXTENT, f"its constant has another number at each of {count} places")
        value = b.ordered(plain, _in_order(plain.view), (1, 1, count))
        per_channel = [constant.reshape(-1) for constant in per_element]
    size = b.shape(value)[-1]
    params = {
        "weight": np.ascontiguousarray(per_channel[0], np.float32),
        "bias": np.ascontiguousarray(per_channel[1], np.float32),
        "mean": np.zeros(size, np.float32),
        "var": np.full(size, 1.0 - _EPS, np.float32),
    }
    return replace(plain, value=_shaped_as(b, b.emit("batch_norm", [value], {"eps": _EPS}, params), made))


def scaled(b: Builder, x: Operand, factor: float) -> Operand:
    """The operand times a number."""
    return x if factor == 1.0 else _affine(b, x, factor, 0.0, x.shape)


def _in_order(view: torch.Tensor) -> torch.Tensor:
    order = [axis for axis, _, _ in significant(view)]
    return view.permute(*order, *(axis for axis in range(view.ndim) if axis not in order))


def _shaped_as(b: Builder, value: str, made: Shape) -> str:
    if b.shape(value) == made:
        return value
    whole = b.last(value, (int(np.prod(made)),))
    return b.ordered(whole, whole.view, made)


def _elements(x: Any, view: torch.Tensor, made: Shape) -> np.ndarray:
    """A constant, float64, for the elements of a value of shape `made` that a view shows: [positions, C]."""
    constant = _constant(x)
    try:
        full = np.broadcast_to(constant, tuple(view.shape))
    except ValueError:
        raise Rejected(f"its constant {list(constant.shape)} does not fit {list(view.shape)}") from None
    order = [axis for axis, _, _ in significant(view)]
    order += [axis for axis in range(view.ndim) if axis not in order]
    return np.asarray(full.transpose(order).reshape(-1, made[-1]))


def _constant(x: Any) -> np.ndarray:
    """A number or a tensor that does not depend on the image, as float64."""
    need(isinstance(x, (int, float, np.ndarray, torch.Tensor)), "its second operand must be a constant")
    return np.asarray(x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else x, np.float64)


#: x * f(x) as one activation
_SELF_GATED = {"sigmoid": "silu", "hard_sigmoid": "hard_swish"}


def mul(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x, y = a["self"], a["other"]
    if not isinstance(x, Operand) or not isinstance(y, Operand):
        x, constant = (x, y) if isinstance(x, Operand) else (y, x)
        return _affine(b, x, constant, 0.0, shape)
    for value, gate in ((x, y), (y, x)):
        node = b.producers.get(gate.value)
        same = (value.shape, value.strides) == (gate.shape, gate.strides)
        if node and node.op == "activation" and node.inputs == (value.value,) and same:
            act = _SELF_GATED.get(node.attrs["act"])
            if act:
                return _activate(b, value, act, shape)
    for value, gate in ((x, y), (y, x)):
        if len(shape) == 4 and value.shape == shape and _is_gate(b, gate, shape):
            gate_map = b.map(b.made(gate.value, (1, shape[1], 1, 1)))
            return b.made(b.emit("mul", [b.map(value), gate_map]), shape)
    return _both(b, "multiply", x, y, shape)


def _is_gate(b: Builder, x: Operand, shape: Shape) -> bool:
    """x is one number per channel of a map of torch shape `shape`, broadcast or not."""
    c = shape[1]
    if b.shape(x.value) not in ((1, 1, c), (c,)) or x.shape not in (shape, (1, c, 1, 1)) or any(x.pad):
        return False
    view = x.view
    return (
        x.offset == 0
        and (c == 1 or view.stride(1) == 1)
        and all(view.shape[axis] == 1 or view.stride(axis) == 0 for axis in (2, 3))
    )


def cat(b: Builder, a: Arguments, shape: Shape) -> Operand:
    parts = [operand(x) for x in a["tensors"]]
    parts = [x for x in parts if 0 not in x.shape]
    axis = a["dim"] % len(shape)
    if axis == 1 and len(shape) in (2, 4) and shape[0] == 1:
        values = [b.map(x) if len(shape) == 4 else b.vector(x) for x in parts]
        return b.made(b.emit("concat", values), shape)
    moved = [b.settled(x).view.movedim(axis, -1) for x in parts]
    rows = int(np.prod(moved[0].shape[:-1]))
    values = [
        b.ordered(b.settled(x), view, (1, rows, view.shape[-1])) for x, view in zip(parts, moved, strict=True)
    ]
    joined = (*moved[0].shape[:-1], shape[axis])
    return _moved(b, b.emit("concat", values), joined, axis)


def stack(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """Along a new axis."""
    parts = [b.settled(operand(x)) for x in a["tensors"]]
    axis = a["dim"] % len(shape)
    return cat(b, {"tensors": [seen(x.value, x.view.unsqueeze(axis)) for x in parts], "dim": axis}, shape)


def addcmul(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """self + value * tensor1 * tensor2."""
    x, y = a["tensor1"], a["tensor2"]
    partial = np.broadcast_shapes(*(tuple(t.shape) for t in (x, y)))
    product = mul(b, {"self": x, "other": y}, partial)
    product = scaled(b, product, float(a["value"]))
    return add(b, {"self": a["self"], "other": product, "alpha": 1}, shape)


def _moved(b: Builder, value: str, shape: Shape, axis: int) -> Operand:
    """The operand of a value whose last axis torch has at `axis`."""
    return seen(value, b.last(value, shape).view.movedim(-1, axis))


def identity(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x = operand(next(iter(a.values())))
    need(not a.get("train", False), "it is in training mode; pass training=self.training")
    dtype = a.get("dtype")
    need(dtype in (None, torch.float32), f"only float32 is computed with, not {dtype}")
    return x


def assertion(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """Of a tensor's metadata, which the traced program fulfils."""
    return operand(a["a"])


def neg(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return _affine(b, operand(a["self"]), -1.0, 0.0, shape)
