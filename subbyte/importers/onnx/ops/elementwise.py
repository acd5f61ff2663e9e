"""Activations, sums, products, concatenation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np

from subbyte.importers.onnx.values import Argument, Call, Constant, Curve, One, Scaled, shortest
from subbyte.importers.rules import elementwise, matrices, moves
from subbyte.importers.rules.arguments import Arguments, Rule, need
from subbyte.importers.rules.operands import Builder, Operand
from subbyte.ir import Node
from subbyte.ir.activations import activation as act_text
from subbyte.ir.activations import activation_function
from subbyte.quant import QParams

Function = Callable[[np.ndarray], np.ndarray]
_LARGEST = float(np.finfo(np.float32).max)


Kind = TypeVar("Kind", bound=Operand)


def _as(kind: type[Kind], x: Operand, **more: Any) -> Kind:
    """The operand as one of another kind, or with other fields."""
    return kind(**{f.name: getattr(x, f.name) for f in fields(Operand)} | more)


def _activate(c: Call, act: str) -> Operand:
    return elementwise.activated(c.b, c.operand(), act)


def _activation(name: str, **parameters: float) -> One:
    """A function; `parameters`: the attributes that are its parameters, with their defaults."""

    def row(c: Call) -> Argument:
        return _activate(c, act_text(name, *(c.number(key, value) for key, value in parameters.items())))

    return row


def _gelu(c: Call) -> Argument:
    kinds = {"none": "gelu", "tanh": "gelu_tanh"}
    kind = c.text("approximate", "none")
    need(kind in kinds, f"its approximate is {kind!r:.80}")
    return _activate(c, kinds[kind])


def _selu(c: Call) -> Argument:
    alpha = c.number("alpha", 1.6732632423543772)
    return _activate(c, act_text("elu", alpha, c.number("gamma", 1.0507009873554805), 1.0))


def _elu(c: Call) -> Argument:
    return _activate(c, act_text("elu", c.number("alpha", 1.0), 1.0, 1.0))


def _celu(c: Call) -> Argument:
    return elementwise.celu(c.b, {"self": c.operand(), "alpha": c.number("alpha", 1.0)}, c.operand().shape)


def _swish(c: Call) -> Argument:
    need(c.number("alpha", 1.0) == 1.0, "only x * sigmoid(x) is known, without a factor inside")
    return _activate(c, "silu")


def _prelu(c: Call) -> Argument:
    x, slope = c.operand(), c.constant(1, "slope").array
    dims = (1,) * (len(x.shape) - slope.ndim) + slope.shape
    need(all(n == 1 for i, n in enumerate(dims) if i != 1), "a slope must have one value per channel")
    slope = np.broadcast_to(slope.reshape(-1), x.shape[1:2] if slope.size > 1 else (1,))
    return elementwise.prelu(c.b, {"self": c.operand(), "weight": slope}, c.operand().shape)


#: The slopes that stand for 1/6: as float32, and as exporters round it.
_SIXTH = 1e-6


def _hard_sigmoid(c: Call) -> Argument:
    """clip(alpha * x + beta, 0, 1); with 1/6 and 1/2 the activation of that name."""
    alpha, beta = c.number("alpha", 0.2), c.number("beta", 0.5)
    if abs(alpha - 1 / 6) <= _SIXTH and beta == 0.5:
        return _activate(c, "hard_sigmoid")
    scaled = _affine(c, _affine(c, c.operand(), "mul", np.float32(alpha)), "add", np.float32(beta))
    return _clamp(c, scaled, 0.0, 1.0)


def _affine(c: Call, x: Operand, kind: str, constant: object) -> Operand:
    rule = {"mul": elementwise.mul, "add": elementwise.add}[kind]
    return rule(c.b, {"self": x, "other": np.asarray(constant), "alpha": 1}, x.shape)


def _clamp(c: Call, x: Operand, low: float | None, high: float | None) -> Operand:
    return elementwise.clamp(c.b, {"self": x, "min": low, "max": high}, x.shape)


def _bound(c: Call, index: int, what: str) -> float | None:
    if c.given(index) is None:
        return None
    array = c.constant(index, what).array
    need(array.size == 1 and not np.isnan(array).any(), f"its {what} is {array!r:.80}")
    return shortest(float(array.reshape(-1)[0]))


def _clip(c: Call) -> Argument:
    return _clamp(c, c.operand(), _bound(c, 1, "min"), _bound(c, 2, "max"))


def _extreme(low: bool) -> One:
    """Max (low) or Min of a tensor and a number."""

    def row(c: Call) -> Argument:
        if len(c.inputs) == 2 and all(isinstance(i, Operand) for i in c.inputs):
            rule = elementwise.larger if low else elementwise.smaller
            return rule(c.b, {"self": c.plain(0), "other": c.plain(1)}, _broadcast(c))
        need(len(c.inputs) == 2, "only of two")
        x = next((i for i in c.inputs if isinstance(i, Operand)), None)
        index = 1 if c.inputs[0] is x else 0
        need(x is not None, "it does not depend on the image")
        bound = _bound(c, index, "bound")
        return _clamp(c, c.operand(1 - index), bound if low else None, None if low else bound)

    return row


def _broadcast(c: Call) -> tuple[int, ...]:
    shapes = [x.array.shape if isinstance(x, Constant) else x.shape for x in c.inputs if x is not None]
    return tuple(np.broadcast_shapes(*shapes))


#: erf, float64 array -> float64 array
_erf = np.vectorize(math.erf, otypes=[np.float64])


def _error_function(c: Call) -> Argument:
    """Of a value, or of its multiple; only a GELU can hold it."""
    x = c.b.plain(c.operand())
    node = c.b.producers.get(x.value)
    if node is None or node.op != "batch_norm":
        return _as(Curve, x, function=_erf)
    inner = _uniform(node)
    return _as(Curve, x, value=node.inputs[0], function=lambda z: _erf(inner(z)))


def _curve(c: Call, change: Callable[[np.ndarray, float], np.ndarray]) -> Argument | None:
    """Sum, product or quotient of what erf made and a number; None if erf made neither."""
    x, y = (z if isinstance(z, Curve) else None for z in (c.argument(0), c.argument(1)))
    found = x or y
    if found is None:
        return None
    number = c.given(1 if x else 0)
    need(isinstance(number, Constant) and number.array.size == 1, "erf is known as a part of GELU only")
    assert isinstance(number, Constant)
    value, inner = float(number.array.reshape(-1)[0]), found.function
    return replace(found, function=lambda z: change(inner(z), value))


def _sum(c: Call) -> Argument:
    if len(c.inputs) != 2:
        total = c.operand()
        for i in range(1, len(c.inputs)):
            both = {"self": total, "other": c.plain(i), "alpha": 1}
            total = elementwise.add(c.b, both, np.broadcast_shapes(total.shape, np.shape(_sized(c, i))))
        return total
    if (curve := _curve(c, lambda z, number: z + number)) is not None:
        return curve
    arguments = {"self": c.plain(0), "other": c.plain(1), "alpha": 1}
    return elementwise.add(c.b, arguments, _broadcast(c))


def _sized(c: Call, index: int) -> np.ndarray:
    """Something of the argument's shape, without memory."""
    x = c.argument(index)
    return np.broadcast_to(np.zeros(()), x.array.shape if isinstance(x, Constant) else x.shape)


def _difference(c: Call) -> Argument:
    arguments = {"self": c.plain(0), "other": c.plain(1), "alpha": 1}
    return elementwise.sub(c.b, arguments, _broadcast(c))


def _negative(c: Call) -> Argument:
    return elementwise.neg(c.b, {"self": c.operand()}, c.operand().shape)


def _quotient(c: Call) -> Argument:
    x, y = c.argument(0), c.argument(1)
    if isinstance(y, Operand):
        x = scaled(c, x) if isinstance(x, Scaled) else x
        y = scaled(c, y) if isinstance(y, Scaled) else y
        both = {"self": x.array if isinstance(x, Constant) else x, "other": y}
        return elementwise.div(c.b, both, _broadcast(c))
    x, divisor = c.operand(), y.array
    need(bool((divisor != 0).all()), "it divides by zero")
    if isinstance(x, Scaled):
        return _rescaled(c, x, 1.0 / divisor.astype(np.float64))
    return elementwise.div(c.b, {"self": x, "other": divisor}, _broadcast(c))


def _product(c: Call) -> Argument:
    x, y = c.argument(0), c.argument(1)
    if isinstance(x, (Constant, Curve)):
        x, y = y, x
    if isinstance(x, Operand) and isinstance(y, Curve):
        return _gelu_of(c, x, y)
    if (curve := _curve(c, lambda z, number: z * number)) is not None:
        return curve
    if isinstance(x, Scaled):
        return (
            _rescaled(c, x, y.array.astype(np.float64))
            if isinstance(y, Constant)
            else _mul(c, scaled(c, x), y)
        )
    return _mul(c, x, y)


def _itself(x: np.ndarray) -> np.ndarray:
    return x


def _gelu_of(c: Call, x: Operand, gate: Curve) -> Operand:
    """x * (1 + erf(x / sqrt(2))), or half of it, wherever the half stands."""
    multiple: Function = _itself
    if x.value != gate.value:
        node = c.b.producers.get(x.value)
        known = node is not None and node.op == "batch_norm" and node.inputs[0] == gate.value
        need(x.strides == gate.strides, "erf is known as a part of GELU only")
        need(known, "erf is known as a part of GELU only")
        assert node is not None
        multiple = _uniform(node)
    made = multiple(_POINTS) * gate.function(_POINTS)
    gelu = activation_function("gelu")(_POINTS)
    factors = [factor for factor in (1.0, 2.0) if np.abs(made - factor * gelu).max() <= 8 * factor * _SAME]
    same = (x.shape, x.strides) == (gate.shape, gate.strides)
    need(same and bool(factors), "erf is known as a part of GELU only")
    value = c.b.emit("activation", [gate.value], {"act": "gelu"})
    return (
        _as(Operand, gate, value=value) if factors[0] == 1.0 else _as(Scaled, gate, value=value, factor=2.0)
    )


def _rescaled(c: Call, x: Scaled, factor: np.ndarray) -> Operand:
    if factor.size == 1 and abs(x.factor * float(factor.reshape(-1)[0]) - 1.0) <= _SIXTH:
        return _as(Operand, x)
    return _affine(c, scaled(c, x), "mul", factor)


def scaled(c: Call, x: Scaled) -> Operand:
    """The operand with its factor applied."""
    return _affine(c, _as(Operand, x), "mul", x.factor)


def _mul(c: Call, x: Argument, y: Argument) -> Operand:
    if isinstance(x, Operand) and isinstance(y, Operand):
        for value, gate in ((x, y), (y, x)):
            found = _self_gated(c, value, gate)
            if found is not None:
                return found
    plain = [z.array if isinstance(z, Constant) else z for z in (x, y)]
    return elementwise.mul(c.b, {"self": plain[0], "other": plain[1]}, _broadcast(c))


#: x * gate(x): the activation, its gate, and by what the gate is multiplied.
_GATES = (
    ("silu", "sigmoid", 1.0),
    ("hard_swish", "hard_sigmoid", 1.0),
    ("hard_swish", "hard_sigmoid", 6.0),
)
#: Where a function is compared with a gate. Constants of the file are rounded to float32, which moves numbers
#: up to 16 by 2**-20 each; 16 of them are allowed for. A slope of 0.16667 for 1/6 is another function.
_POINTS = np.linspace(-8.0, 8.0, 1025)
_SAME = 16 * 2.0**-20


def _self_gated(c: Call, x: Operand, gate: Operand) -> Operand | None:
    """x * f(x) as one activation, where f is a gate in one node or several, rounded to grids or not."""
    same = (x.shape, x.strides, x.folded) == (gate.shape, gate.strides, gate.folded)
    if not same or any(x.pad) or any(gate.pad):
        return None
    steps = list(_steps(c.b, x.value, gate.value))
    if not steps or steps[-1] is None:
        return None
    chain = [step for step in steps if step is not None]
    if not any(node.op == "activation" for node in chain):
        return None
    plain = _composed(c, chain, rounded=False)
    for act, name, factor in _GATES:
        if np.abs(plain(_POINTS) - factor * activation_function(name)(_POINTS)).max() > _SAME * factor:
            continue
        made = elementwise.activated(c.b, x, act)
        if any(node.op == "quantize" for node in chain):
            exact = _composed(c, chain, rounded=True)
            need(factor == 1.0, "its gate is on a grid before it is divided")
            c.t.functions[made.value] = _times_itself(exact)
        return made if factor == 1.0 else _as(Scaled, made, factor=factor)
    return None


def _times_itself(gate: Function) -> Function:
    return lambda x: x * gate(x)


def _steps(b: Builder, source: str, value: str) -> Iterator[Node | None]:
    """The nodes from value back to source, the last first; None in the end if they do not lead there."""
    origin = _unquantized(b, source)
    for _ in range(8):
        if _unquantized(b, value) == origin:
            return
        node = b.producers.get(value)
        if node is None or node.op not in ("activation", "batch_norm", "quantize", "dequantize"):
            break
        yield node
        value = node.inputs[0]
    yield None


def _unquantized(b: Builder, value: str) -> str:
    """The codes behind a value that was dequantized, else the value."""
    node = b.producers.get(value)
    return node.inputs[0] if node is not None and node.op == "dequantize" else value


def _composed(c: Call, chain: list[Node], rounded: bool) -> Function:
    """The function that the nodes, the last first, compute; with or without the grids between them."""
    parts: list[Function] = []
    for node in reversed(chain):
        if node.op == "activation":
            parts.append(c.t.functions.get(node.output, activation_function(node.attrs["act"])))
        elif node.op == "batch_norm":
            parts.append(_uniform(node))
        elif node.op == "quantize" and rounded:
            grid = c.b.values[node.output].grid
            parts.append(_rounded_to(grid))

    def function(x: np.ndarray) -> np.ndarray:
        for part in parts:
            x = part(x)
        return x

    return function


def _rounded_to(grid: QParams) -> Function:
    return lambda x: grid.dequantize(grid.quantize(x)).astype(np.float64)


def _uniform(node: Node) -> Function:
    """A batch_norm that is the same for all channels; else one that is no number, which equals no gate."""
    p = {role: np.asarray(param, np.float64) for role, param in node.params.items()}
    slope = p["weight"] / np.sqrt(p["var"] + node.attrs["eps"])
    shift = p["bias"] - p["mean"] * slope
    if np.ptp(slope) > 0 or np.ptp(shift) > 0:
        return lambda x: np.full_like(x, np.inf)
    return lambda x: slope[0] * x + shift[0]


def _concat(c: Call) -> Argument:
    parts = [_sized(c, i).shape for i in range(len(c.inputs))]
    axis, rank = c.integer("axis", 0), len(parts[0])
    need(-rank <= axis < rank and all(len(part) == rank for part in parts), "its inputs do not line up")
    size = sum(part[axis] for part in parts)
    shape = tuple(size if i == axis % rank else n for i, n in enumerate(parts[0]))
    same = all(part[i] == n for part in parts for i, n in enumerate(shape) if i != axis % rank)
    need(same, f"its inputs do not line up: {parts!r:.200}")
    return moves.cat(c.b, {"tensors": [c.plain(i) for i in range(len(parts))], "dim": axis}, shape)


def _softmax(c: Call) -> Argument:
    """Left out where nothing follows: it keeps the order of the classes, and outputs are scores here."""
    x = c.operand()
    rank = len(x.shape)
    axis = c.integer("axis", 1 if c.t.opset < 13 else -1)
    need(-rank <= axis < rank, f"its axis is {axis}")
    axis %= rank
    if c.node.outputs[0] in c.t.last and axis == 1 and x.shape[axis] > 1:
        c.t.left_out.append(f"{c.node.op} {c.node.name}")
        return replace(x)
    need(c.node.op == "Softmax", "only as the last node, where it is left out")
    if c.t.opset >= 13:
        return matrices.softmax(c.b, {"self": x, "dim": axis}, x.shape)
    flat = (math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))  # all axes behind are one
    made = matrices.softmax(c.b, {"self": c.b.reshaped_to(x, flat), "dim": 1}, flat)
    return c.b.reshaped_to(made, x.shape)


def _simple(rule: Rule, **arguments: Any) -> One:
    """A rule of one tensor that keeps its shape."""

    def row(c: Call) -> Argument:
        x = c.operand()
        named: Arguments = {"self": x, **arguments}
        return rule(c.b, named, x.shape)

    return row


def _power(c: Call) -> Argument:
    x, exponent = c.operand(), c.constant(1, "exponent").array
    need(exponent.size == 1, "it has several exponents")
    return elementwise.power(c.b, {"self": x, "exponent": exponent}, x.shape)


ROWS: dict[str, One] = {
    "Relu": _activation("relu"),
    "Sigmoid": _activation("sigmoid"),
    "Tanh": _activation("tanh"),
    "HardSwish": _activation("hard_swish"),
    "Mish": _activation("mish"),
    "Softplus": _activation("softplus"),
    "LeakyRelu": _activation("leaky_relu", alpha=0.01),
    "Gelu": _gelu,
    "Erf": _error_function,
    "Selu": _selu,
    "Elu": _elu,
    "Celu": _celu,
    "Swish": _swish,
    "PRelu": _prelu,
    "HardSigmoid": _hard_sigmoid,
    "Clip": _clip,
    "Max": _extreme(low=True),
    "Min": _extreme(low=False),
    "Add": _sum,
    "Sum": _sum,
    "Sub": _difference,
    "Neg": _negative,
    "Div": _quotient,
    "Mul": _product,
    "Pow": _power,
    "Sqrt": _simple(elementwise.sqrt),
    "Reciprocal": _simple(elementwise.reciprocal),
    "Abs": _simple(elementwise.absolute),
    "Softsign": _simple(elementwise.softsign),
    "Concat": _concat,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
}
