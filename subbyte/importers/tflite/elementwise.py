"""Rules for activations, sums, products, concatenation, changes of shape and of grids."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from subbyte.importers.rules.builder import Rejected
from subbyte.importers.tflite.builder import Operand
from subbyte.importers.tflite.call import Call, Constant, Rule, Shape, need
from subbyte.ir import Param
from subbyte.ir.activations import activation as act_text
from subbyte.ir.ops import is_plain
from subbyte.quant import QParams, QTensor
from subbyte.quant.bias import LARGEST
from subbyte.quant.format import INT8

#: Added to the variance 1 - EPS it gives exactly 1, also in float32.
_EPS = 2.0**-10
#: Of a vector that is scaled by constants: that becomes a square matrix.
_MAX_VECTOR = 4096


def _result(c: Call, value: str, shape: Shape) -> Operand:
    return Operand(value, shape)


def activation(name: str) -> Rule:
    """An elementwise function without parameters."""
    return lambda c: _activate(c, name)


def _activate(c: Call, act: str) -> Operand:
    x = c.operand()
    return Operand(c.b.activate(c.b.plain(x), act, c.q), x.shape)


def leaky_relu(c: Call) -> Operand:
    slope = 0.0 if c.operator.options is None else c.operator.options.real(0, 0.0)
    return _activate(c, act_text("leaky_relu", slope))


def gelu(c: Call) -> Operand:
    return _activate(c, "gelu_tanh" if c.option(0, "b") else "gelu")


def prelu(c: Call) -> Operand:
    """One slope for all, or one for each channel."""
    slope, x = c.numbers(c.constant(1, "slope")), c.operand()
    if slope.size and (slope == slope.flat[0]).all():
        return _activate(c, act_text("leaky_relu", float(slope.flat[0])))
    rank = len(x.shape)
    value = c.b.map(x) if rank == 4 else c.b.flat(x)
    slopes = np.array(_per_channel(slope, c.b.shape(value)[-1], rank), np.float32)
    return Operand(c.emit("prelu", [value], params={"slope": slopes}), x.shape)


def add(c: Call) -> Operand:
    x, y = c.inputs
    if isinstance(x, Operand) and isinstance(y, Operand):
        return _residual(c, x, y) or _both(c, "add", x, y)
    x, constant = (x, y) if isinstance(x, Operand) else (y, x)
    return _affine(c, x, 1.0, _numbers(c, constant), c.fused(0))


def _residual(c: Call, x: Operand, y: Operand) -> Operand | None:
    """x, a layer's sums, which the network does not round alone, and codes y, in the layer itself."""
    layer = c.b.producers.get(x.value)
    if layer is None or layer.op != "conv2d" or not is_plain(layer) or x.shape != y.shape:
        return None
    sums_are_real = isinstance(layer.params["weight"], QTensor) and c.b.q(x.value) is None
    if not sums_are_real or c.b.q(y.value) is None or c.q is None or c.fused(0) != "none":
        return None
    inputs = [layer.inputs[0], c.b.map(y)]
    return Operand(c.b.emit("conv2d", inputs, layer.attrs, layer.params, q=c.q), x.shape)


def _both(c: Call, op: str, x: Operand, y: Operand) -> Operand:
    need(x.shape == y.shape, f"operands must have equal shapes, not {list(x.shape)} and {list(y.shape)}")
    values = [c.b.plain(x), c.b.plain(y)]
    if c.b.shape(values[0]) != c.b.shape(values[1]):
        values = [c.b.map(x), c.b.map(y)] if len(x.shape) == 4 else [c.b.flat(x), c.b.flat(y)]
    return Operand(c.emit(op, values, c.fused(0)), x.shape)


def sub(c: Call) -> Operand:
    x, y = c.inputs
    if isinstance(x, Operand) and isinstance(y, Operand):
        return _both(c, "subtract", x, y)
    if isinstance(x, Operand):
        return _affine(c, x, 1.0, -_numbers(c, y), c.fused(0))
    return _affine(c, y, -1.0, _numbers(c, x), c.fused(0))


def div(c: Call) -> Operand:
    x, y = c.operand(), c.inputs[1]
    need(isinstance(y, Constant), "only by a constant")
    divisor = _numbers(c, y)
    need(bool((divisor != 0.0).all()), "it divides by zero")
    return _affine(c, x, 1.0 / divisor, 0.0, c.fused(0))


def _numbers(c: Call, x: object) -> np.ndarray:
    if not isinstance(x, Constant):
        raise Rejected("an input is left out")
    return c.numbers(x).astype(np.float64)


def _affine(c: Call, x: object, scale: np.ndarray | float, shift: np.ndarray | float, act: str) -> Operand:
    """scale * x + shift with constants that are equal for all positions."""
    if not isinstance(x, Operand):
        raise Rejected("an input is left out")
    rank = len(x.shape)
    value = c.b.map(x) if rank == 4 else c.b.flat(x)
    channels = c.b.shape(value)[-1]
    factors, terms = (_per_channel(constant, channels, rank) for constant in (scale, shift))
    need(rank == 4 or channels <= _MAX_VECTOR, f"only of up to {_MAX_VECTOR} numbers, or of maps")
    q = c.b.q(value)
    if q is None and not c.b.mixed:
        params: dict[str, Param] = {
            "weight": factors.astype(np.float32),
            "bias": terms.astype(np.float32),
            "mean": np.zeros(channels, np.float32),
            "var": np.full(channels, 1.0 - _EPS, np.float32),
        }
        return Operand(c.emit("batch_norm", [value], act, {"eps": _EPS}, params), x.shape)
    need(rank == 4, "beside 8-bit numbers only maps can be scaled by constants")
    attrs = {"stride": [1, 1], "pad": [0, 0, 0, 0], "groups": channels, "act": "none"}
    return Operand(c.emit("conv2d", [value], act, attrs, _scaling(factors, terms, q)), x.shape)


def _scaling(factors: np.ndarray, terms: np.ndarray, x: QParams | None) -> dict[str, Param]:
    """A depthwise 1x1 layer. Of codes: weights of 64 units, so that the bias has 6 bits below a step of x."""
    if x is None:
        weight = np.ascontiguousarray(factors.astype(np.float32).reshape(-1, 1, 1, 1))
        return {"weight": weight, "bias": terms.astype(np.float32)}
    with np.errstate(all="ignore"):
        scale = np.where(factors == 0.0, 1.0, np.abs(factors) / 64).astype(np.float32)
        bias = np.rint(terms / (np.float64(x.scale) * scale))
    need(bool((np.abs(bias) <= LARGEST).all()), "its constants lie far outside its input's grid")
    values = (64 * np.sign(factors)).astype(np.int16).reshape(-1, 1, 1, 1)
    return {"weight": QTensor.from_values(values, scale, INT8), "bias": bias.astype(np.int32)}


def _per_channel(x: np.ndarray | float, channels: int, rank: int) -> np.ndarray:
    """float64 [C] of a number, or of a constant that has one for each channel."""
    constant = np.asarray(x, np.float64)
    one = constant.size == 1 or (constant.size == channels and constant.shape[-1:] == (channels,))
    need(one and constant.ndim <= rank, "a constant must have one value, or one for each channel")
    return np.broadcast_to(constant.reshape(-1), (channels,))


#: x * f(x) as one activation
_SELF_GATED = {"sigmoid": "silu", "hard_sigmoid": "hard_swish"}


def mul(c: Call) -> Operand:
    x, y = c.inputs
    act = c.fused(0)
    if not isinstance(x, Operand) or not isinstance(y, Operand):
        x, constant = (x, y) if isinstance(x, Operand) else (y, x)
        factor = _numbers(c, constant)
        whole = _hard_sigmoid(c, x, factor)
        return _affine(c, x, factor, 0.0, act) if whole is None or act != "none" else whole
    for value, gate in ((x, y), (y, x)):
        node = c.b.producers.get(gate.value)
        if node and node.op == "activation" and node.inputs == (value.value,) and value.shape == gate.shape:
            own = _SELF_GATED.get(node.attrs["act"])
            if own:
                result = c.b.activate(c.b.plain(value), own, c.q)
                result = result if act == "none" else c.b.activate(result, act, c.q, c.b.sub("act"))
                return Operand(result, value.shape)
    for value, gate in ((x, y), (y, x)):
        channels = value.shape[-1]
        if len(value.shape) == 4 and gate.shape == (1, 1, 1, channels) and not any(gate.pad):
            of_gate = c.b.shape(gate.value)
            gate_map = gate.value if of_gate == (1, 1, channels) else c.b.map(gate)
            return Operand(c.emit("mul", [c.b.map(value), gate_map], act), value.shape)
    return _both(c, "multiply", x, y)


def _hard_sigmoid(c: Call, x: object, factor: np.ndarray) -> Operand | None:
    """relu6(x + 3) / 6, as converters write it where x is float32."""
    if not isinstance(x, Operand) or factor.size != 1 or abs(float(factor.reshape(-1)[0]) - 1 / 6) > 1e-7:
        return None
    clamp = c.b.producers.get(x.value)
    if clamp is None or clamp.op != "activation" or clamp.attrs["act"] != "relu6":
        return None
    shift = c.b.producers.get(clamp.inputs[0])
    if shift is None or shift.op != "batch_norm" or shift.attrs["eps"] != _EPS:
        return None
    threes = np.array_equal(shift.params["bias"], np.full(c.b.shape(x.value)[-1], 3.0))  # type: ignore[arg-type]
    if not threes or not (np.asarray(shift.params["weight"]) == 1.0).all():
        return None
    return Operand(c.b.activate(shift.inputs[0], "hard_sigmoid", None), x.shape)


def concatenation(c: Call) -> Operand:
    """Along the channels of maps, else along the first axis, where the inputs' elements follow each other."""
    parts = [c.operand(i) for i in range(len(c.inputs))]
    need(len(parts) >= 1, "it has no input")
    first = parts[0].shape
    rank = len(first)
    axis = c.option(0) % rank
    need(
        all(
            len(p.shape) == rank and p.shape[:axis] + p.shape[axis + 1 :] == first[:axis] + first[axis + 1 :]
            for p in parts
        ),
        "its inputs do not line up",
    )
    along = sum(p.shape[axis] for p in parts)
    shape = (*first[:axis], along, *first[axis + 1 :])
    if rank == 4 and axis == 3:
        values = [c.b.map(p) for p in parts]
    else:
        need(
            axis >= 1 and math.prod(first[:axis]) == 1,
            f"only along the channels of maps, not along axis {axis}",
        )
        values = [c.b.flat(replace(p, shape=(1, math.prod(p.shape)))) for p in parts]
    q = c.q
    values = [c.b.on(value, q) for value in values]
    act = c.fused(1)
    return Operand(c.emit("concat", values, act), shape)


def reshape(c: Call) -> Operand:
    """To the shape of the second input, or of the options where there is none; -1 stands for what remains."""
    x = c.operand()
    sizes = c.ints(1, "shape") if c.has(1) else _list(c, 0)
    need(all(n >= -1 for n in sizes) and sizes.count(-1) <= 1, f"a shape {sizes} is not possible")
    total, known = math.prod(x.shape), math.prod(n for n in sizes if n != -1)
    need(known > 0 and total % known == 0, f"{list(x.shape)} cannot become {sizes}")
    shape = tuple(total // known if n == -1 else n for n in sizes)
    return _view(c, x, shape)


def squeeze(c: Call) -> Operand:
    x, axes = c.operand(), _list(c, 0)
    rank = len(x.shape)
    chosen = {axis % rank for axis in axes} if axes else {i for i in range(rank) if x.shape[i] == 1} - {0}
    need(all(x.shape[i] == 1 for i in chosen), f"{list(x.shape)} has more than one number along axes {axes}")
    return _view(c, x, tuple(n for i, n in enumerate(x.shape) if i not in chosen))


def expand_dims(c: Call) -> Operand:
    x, axes = c.operand(), c.ints(1, "axis")
    need(len(axes) == 1, "it has more than one axis")
    axis = axes[0] % (len(x.shape) + 1)
    return _view(c, x, (*x.shape[:axis], 1, *x.shape[axis:]))


def _list(c: Call, field: int) -> list[int]:
    if c.operator.options is None:
        return []
    found = c.operator.options.numbers(field, "i4")
    need(len(found) <= 16, "its shape or axes are no short list")
    return [int(n) for n in found]


def _view(c: Call, x: Operand, shape: Shape) -> Operand:
    need(math.prod(shape) == math.prod(x.shape), f"{list(x.shape)} cannot become {list(shape)}")
    need(shape[:1] == (1,), f"it mixes the batch with other dimensions: {list(shape)}")
    return Operand(c.b.on(c.b.plain(x), c.q), shape)


def quantize(c: Call) -> Operand:
    x = c.operand()
    value = c.b.plain(x)
    if c.b.q(value) is None and c.q is not None:
        return Operand(c.b.emit("quantize", [value], q=c.q), x.shape)
    return Operand(c.b.on(value, c.q), x.shape)


def dequantize(c: Call) -> Operand:
    x = c.operand()
    value = c.b.plain(x)
    return Operand(value if c.b.q(value) is None else c.b.emit("dequantize", [value]), x.shape)
