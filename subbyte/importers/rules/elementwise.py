"""Rules for activations, sums, products, quotients and roots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from subbyte.importers.rules.arguments import Arguments, Rule, Shape, array, need, number, operand
from subbyte.importers.rules.builder import Rejected
from subbyte.importers.rules.operands import Builder, Operand, seen
from subbyte.importers.rules.strides import View, significant
from subbyte.ir.activations import activation as act_text
from subbyte.ir.limits import MAX_EXTENT


def activation(name: str, *parameters: str) -> Rule:
    """An elementwise function; `parameters` are the arguments that are its parameters, in its order."""

    def rule(b: Builder, a: Arguments, shape: Shape) -> Operand:
        return activated(b, a["self"], act_text(name, *(number(a[p], p) for p in parameters)))

    return rule


def activated(b: Builder, x: Any, act: str) -> Operand:
    """The operand behind an activation, `act` as its attribute."""
    plain = b.plain(operand(x))
    return replace(plain, value=b.emit("activation", [plain.value], {"act": act}))


def gelu(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return activated(b, a["self"], {"none": "gelu", "tanh": "gelu_tanh"}[a["approximate"]])


def prelu(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """One slope for all is a leaky ReLU; more are one for each channel, torch's second axis."""
    weight = array(a["weight"], "slope").reshape(-1)
    slopes = np.unique(weight)
    if len(slopes) == 1:
        return activated(b, a["self"], act_text("leaky_relu", float(slopes[0])))
    x = operand(a["self"])
    value = b.map(x) if len(shape) == 4 else b.vector(x)
    return b.made(b.emit("prelu", [value], None, {"slope": weight}), shape)


def rrelu(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """In evaluation its slope is the mean of those that training draws from."""
    slope = (number(a["lower"], "lower") + number(a["upper"], "upper")) / 2
    return activated(b, a["self"], act_text("leaky_relu", slope))


#: (alpha, scale) of arXiv 1706.02515
_SELU = (1.6732632423543772, 1.0507009873554805)


def selu(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return activated(b, a["self"], act_text("elu", *_SELU, 1.0))


def celu(b: Builder, a: Arguments, shape: Shape) -> Operand:
    alpha = number(a["alpha"], "alpha")
    need(alpha > 0, f"alpha must be positive, not {alpha}")
    return activated(b, a["self"], act_text("elu", alpha, 1.0, 1.0 / alpha))


#: log(1 + e^t) and t, its continuation in torch, are the same float32 numbers from here on.
_LINEAR_FROM = 17.0


def softplus(b: Builder, a: Arguments, shape: Shape) -> Operand:
    threshold = number(a["threshold"], "threshold")
    need(threshold >= _LINEAR_FROM, f"threshold must be {_LINEAR_FROM:g} or more, not {threshold:g}")
    return activated(b, a["self"], act_text("softplus", number(a["beta"], "beta")))


def log_sigmoid(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """-softplus(-x)."""
    return scaled(b, activated(b, scaled(b, operand(a["self"]), -1.0), act_text("softplus", 1.0)), -1.0)


_LARGEST = float(np.finfo(np.float32).max)


def clamp(b: Builder, a: Arguments, shape: Shape) -> Operand:
    low, high = a.get("min", a.get("min_val")), a.get("max", a.get("max_val"))
    low = -_LARGEST if low is None else max(number(low, "min"), -_LARGEST)
    high = _LARGEST if high is None else min(number(high, "max"), _LARGEST)
    need(low <= high, f"min {low:g} is above max {high:g}")
    known = {(0.0, _LARGEST): "relu", (0.0, 6.0): "relu6"}
    return activated(b, a["self"], known.get((low, high)) or act_text("clip", low, high))


def absolute(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """A leaky ReLU whose slope is -1."""
    return activated(b, a["self"], act_text("leaky_relu", -1.0))


def larger(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """max(x, y) = y + relu(x - y)."""
    over = activated(b, sub(b, {**a, "alpha": 1}, shape), "relu")
    return add(b, {"self": over, "other": a["other"], "alpha": 1}, shape)


def smaller(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """min(x, y) = y - relu(y - x)."""
    over = activated(b, sub(b, {"self": a["other"], "other": a["self"], "alpha": 1}, shape), "relu")
    return sub(b, {"self": a["other"], "other": over, "alpha": 1}, shape)


def softsign(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """x / (1 + |x|)."""
    size = _affine(b, absolute(b, a, shape), 1.0, 1.0, shape)
    return div(b, {"self": a["self"], "other": size}, shape)


def glu(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """The first half of an axis times the sigmoid of the other."""
    x = b.settled(operand(a["self"]))
    axis = a["dim"] % len(x.shape)
    half = x.shape[axis] // 2
    first, other = (seen(x.value, x.view.cut(axis, range(i, i + half))) for i in (0, half))
    return mul(b, {"self": first, "other": activated(b, other, "sigmoid")}, shape)


def add(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x, y, alpha = a["self"], a["other"], a["alpha"]
    y = _multiple(b, y, number(alpha, "alpha"))
    if not isinstance(x, Operand) or not isinstance(y, Operand):
        x, constant = (x, y) if isinstance(x, Operand) else (y, x)
        return _affine(b, x, 1.0, constant, shape)
    return both(b, "add", x, y, shape)


def _multiple(b: Builder, x: Any, factor: float) -> Any:
    if factor == 1:
        return x
    return scaled(b, x, factor) if isinstance(x, Operand) else _constant(x) * factor


def both(b: Builder, op: str, x: Operand, y: Operand, shape: Shape) -> Operand:
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
    x, y, alpha = a["self"], a["other"], a["alpha"]
    y = _multiple(b, y, number(alpha, "alpha"))
    if isinstance(x, Operand) and isinstance(y, Operand):
        return both(b, "subtract", x, y, shape)
    if isinstance(x, Operand):
        return _affine(b, x, 1.0, -_constant(y), shape)
    return _affine(b, y, -1.0, x, shape)


def rsub(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return sub(b, {**a, "self": a["other"], "other": a["self"]}, shape)


def square(b: Builder, x: Operand) -> Operand:
    """The operand times itself."""
    x = b.plain(x)
    return replace(x, value=b.emit("multiply", [x.value, x.value]))


def root(b: Builder, x: Operand) -> Operand:
    """The square root of the operand."""
    x = b.plain(x)
    return replace(x, value=b.emit("sqrt", [x.value]))


def power(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """Whole and half powers, by products and roots."""
    x, exponent = operand(a["self"]), number(a.get("exponent", 2), "exponent")
    need(
        2 * exponent == int(2 * exponent) and 0 < abs(exponent) <= 8,
        f"only powers from 1/2 to 8 in steps of 1/2, and their reciprocals, are known, not {exponent:g}",
    )
    count, half = divmod(abs(exponent), 1)
    factors = [root(b, x)] if half else []
    square_, rest = x, int(count)
    while rest:
        factors += [square_] if rest % 2 else []
        rest //= 2
        square_ = square(b, square_) if rest else square_
    made = factors[0]
    for factor in factors[1:]:
        made = both(b, "multiply", made, factor, shape)
    return made if exponent > 0 else reciprocal(b, {"self": made}, shape)


def sqrt(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return root(b, operand(a["self"]))


def rsqrt(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return reciprocal(b, {"self": root(b, operand(a["self"]))}, shape)


def reciprocal(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return div(b, {"self": 1.0, "other": a["self"]}, shape)


def div(b: Builder, a: Arguments, shape: Shape) -> Operand:
    x, y = a["self"], a["other"]
    need(a.get("rounding_mode") is None, "a quotient must not be rounded")
    if not isinstance(y, Operand):
        return _affine(b, operand(x), 1.0 / _constant(y), 0.0, shape)
    if not isinstance(x, Operand):  # the numerator has no values of the image: 0 * y + x
        x = _affine(b, y if y.shape == shape else _expanded(b, y, shape), 0.0, x, shape)
    return both(b, "divide", x, y, shape)


def _affine(b: Builder, x: Operand, scale: Any, shift: Any, shape: Shape) -> Operand:
    """scale * x + shift with constants: a batch_norm of channels, or of elements where positions differ."""
    if x.shape != shape:
        x = _expanded(b, x, shape)
    plain = b.settled(b.plain(x))
    made = b.shape(plain.value)
    per_element = [_elements(constant, plain.view, made) for constant in (scale, shift)]
    per_channel = [constant[0] if (constant == constant[0]).all() else None for constant in per_element]
    value = plain.value
    if any(constant is None for constant in per_channel):
        count = int(np.prod(made))
        if count > MAX_EXTENT:  # few numbers in many places, it may be
            return _repeated(b, x, scale, shift)
        value = b.ordered(plain, _in_order(plain.view), (1, 1, count))
        per_channel = [constant.reshape(-1) for constant in per_element]
    made_value = b.affine(value, np.float32(per_channel[0]), np.float32(per_channel[1]))
    return replace(plain, value=_shaped_as(b, made_value, made))


def _repeated(b: Builder, x: Operand, scale: Any, shift: Any) -> Operand:
    """scale * x + shift with constants as operands, which are expanded."""
    for op, numbers, neutral in (("multiply", _constant(scale), 1.0), ("add", _constant(shift), 0.0)):
        if (numbers != neutral).any():
            whole = numbers.reshape((1,) * (len(x.shape) - numbers.ndim) + numbers.shape)
            x = both(b, op, x, constant(b, whole), x.shape)
    return x


def scaled(b: Builder, x: Operand, factor: float) -> Operand:
    """The operand times a number."""
    return x if factor == 1.0 else _affine(b, x, factor, 0.0, x.shape)


def affine(b: Builder, x: Operand, weight: Any, bias: Any) -> Operand:
    """The operand times a constant plus another, both broadcast to its shape; None leaves either out."""
    return _affine(
        b, x, 1.0 if weight is None else weight, 0.0 if bias is None else bias, x.shape
    )  # fmt: skip


def _in_order(view: View) -> View:
    order = [axis for axis, _, _ in significant(view)]
    return view.permute([*order, *(axis for axis in range(view.ndim) if axis not in order)])


def _shaped_as(b: Builder, value: str, made: Shape) -> str:
    if b.shape(value) == made:
        return value
    whole = b.last(value, (int(np.prod(made)),))
    return b.ordered(whole, whole.view, made)


def _elements(x: Any, view: View, made: Shape) -> np.ndarray:
    """A constant, float64, for the elements of a value of shape `made` that a view shows: [positions, C]."""
    constant = _constant(x)
    try:
        full = np.broadcast_to(constant, view.shape)
    except ValueError:
        raise Rejected(f"its constant {list(constant.shape)} does not fit {list(view.shape)}") from None
    order = [axis for axis, _, _ in significant(view)]
    order += [axis for axis in range(view.ndim) if axis not in order]
    return np.asarray(full.transpose(order).reshape(-1, made[-1]))


def _constant(x: Any) -> np.ndarray:
    """A number or a tensor that does not depend on the image, as float64."""
    need(isinstance(x, (int, float, np.ndarray)), "its second operand must be a constant")
    return np.asarray(x, np.float64)


#: A concat has no more inputs.
_MOST_PARTS = 64


def constant(b: Builder, x: np.ndarray) -> Operand:
    """A constant as an operand, for operators that read two: zero times numbers of the image, plus it."""
    count = max(1, x.size)
    if count > MAX_EXTENT:  # its parts, one behind the other
        axis = next(i for i, n in enumerate(x.shape) if n > 1)
        most = max(1, MAX_EXTENT * x.shape[axis] // count)  # of this axis in a part
        parts = min(-(-x.shape[axis] // most), _MOST_PARTS)
        return b.joined([constant(b, part) for part in np.array_split(x, parts, axis)], axis, x.shape)
    pooled = b.emit("global_avg_pool", [b.input], name=b.beside("constant"))
    one = b.last(pooled, b.shape(pooled))
    first = seen(one.value, one.view.cut(2, range(1)))
    value = b.ordered(first, first.view.expand((1, 1, count)), (1, 1, count))
    return _affine(b, b.last(value, x.shape), 0.0, x, x.shape)


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
                return activated(b, value, act)
    for value, gate in ((x, y), (y, x)):
        if len(shape) == 4 and value.shape == shape and _is_gate(b, gate, shape):
            gate_map = b.map(b.made(gate.value, (1, shape[1], 1, 1)))
            return b.made(b.emit("mul", [b.map(value), gate_map]), shape)
    return both(b, "multiply", x, y, shape)


def _is_gate(b: Builder, x: Operand, shape: Shape) -> bool:
    """x is one number per channel of a map of torch shape `shape`, broadcast or not."""
    c = shape[1]
    if b.shape(x.value) not in ((1, 1, c), (c,)) or x.shape not in (shape, (1, c, 1, 1)) or any(x.pad):
        return False
    view = x.view
    return (
        x.offset == 0
        and (c == 1 or view.strides[1] == 1)
        and all(view.shape[axis] == 1 or view.strides[axis] == 0 for axis in (2, 3))
    )


def addcmul(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """self + value * tensor1 * tensor2."""
    return _combined(b, a, shape, mul)


def addcdiv(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """self + value * tensor1 / tensor2."""
    return _combined(b, a, shape, div)


def _combined(b: Builder, a: Arguments, shape: Shape, rule: Callable[..., Operand]) -> Operand:
    x, y = a["tensor1"], a["tensor2"]
    partial = np.broadcast_shapes(*(tuple(t.shape) for t in (x, y)))
    made = scaled(b, rule(b, {"self": x, "other": y}, partial), float(a["value"]))
    return add(b, {"self": a["self"], "other": made, "alpha": 1}, shape)


def lerp(b: Builder, a: Arguments, shape: Shape) -> Operand:
    """self + weight * (end - self)."""
    x = a["self"]
    between = sub(b, {"self": a["end"], "other": x, "alpha": 1}, shape)
    moved = mul(b, {"self": between, "other": a["weight"]}, shape)
    return add(b, {"self": x, "other": moved, "alpha": 1}, shape)


def neg(b: Builder, a: Arguments, shape: Shape) -> Operand:
    return _affine(b, operand(a["self"]), -1.0, 0.0, shape)
