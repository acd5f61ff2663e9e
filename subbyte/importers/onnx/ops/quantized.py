"""QuantizeLinear and DequantizeLinear, and the operators that hold them inside (QLinearConv, ...).

A value on a grid is one of the graph with that grid. Its codes are unsigned: int8 ones are 128 more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from subbyte.errors import GraphError
from subbyte.importers.onnx.ops import elementwise, layers
from subbyte.importers.onnx.values import Argument, Call, Constant, One, OnnxNode
from subbyte.importers.rules.arguments import need
from subbyte.importers.rules.builder import Rejected
from subbyte.importers.rules.operands import Operand
from subbyte.ir import Value
from subbyte.quant import QParams

_NUMPY = {
    2: (np.uint8, 8),
    3: (np.int8, 8),
    21: (np.uint8, 4),
    22: (np.int8, 4),
    25: (np.uint8, 2),
    26: (np.int8, 2),
}


def _quantize_linear(c: Call) -> Argument:
    scale, zero = c.constant(1, "scale"), _zero(c)
    x = c.argument(0)
    if isinstance(x, Constant):
        return _codes(c, x, scale, zero)
    if c.node.outputs[0] in c.t.unrounded:
        return x
    return quantized(c, x, grid(scale, zero))


def _dequantize_linear(c: Call) -> Argument:
    x, scale = c.argument(0), c.constant(1, "scale")
    zero = None if c.given(2) is None else c.constant(2, "zero point")
    if isinstance(x, Constant):
        return _numbers(c, x, scale, zero)
    if c.node.inputs[0] in c.t.unrounded:
        return x
    known = c.b.values[x.value].q
    kind = zero or Constant(np.zeros((), np.uint8))
    wanted = grid(scale, kind)
    if known is None:  # the image itself as codes: real numbers reach the network, and are rounded here
        need(x.value == c.b.input, "its input is on no grid")
        x = quantized(c, x, wanted)
    elif known != wanted:
        need(zero is None and known.scale == wanted.scale and known.zero_point == 0, "it reads another grid")
    return dequantized(c, x)


def _zero(c: Call) -> Constant:
    """The zero point of a QuantizeLinear, whose type is that of its codes."""
    if c.given(2) is not None:
        return c.constant(2, "zero point")
    number = c.integer("output_dtype", 0) or 2
    need(number in _NUMPY, f"its codes are of type {number}, not 8, 4 or 2 bits wide")
    dtype, bits = _NUMPY[number]
    return Constant(np.zeros((), dtype), bits=bits)


def grid(scale: Constant, zero: Constant) -> QParams:
    """The grid of an activation. Rejected if it has several scales, or other codes than 8, 4 or 2 bits."""
    need(scale.array.size == 1 and zero.array.size == 1, "an activation has one scale, not one per channel")
    need(
        zero.array.dtype in (np.uint8, np.int8), f"its codes are {zero.array.dtype}, not 8, 4 or 2 bits wide"
    )
    offset = 1 << (zero.bits - 1) if zero.array.dtype == np.int8 else 0
    try:
        number = float(np.float32(scale.array.reshape(-1)[0]))
        return QParams(number, int(zero.array.reshape(-1)[0]) + offset, zero.bits)
    except GraphError as error:
        raise Rejected(str(error)) from None


def quantized(c: Call, x: Operand, q: QParams) -> Operand:
    """The operand's codes."""
    before = c.b.producers.get(x.value)
    if before is not None and before.op == "dequantize" and c.b.values[before.inputs[0]].q == q:
        return replace(x, value=before.inputs[0])
    need(c.b.values[x.value].q is None, "it quantizes codes")
    need(x.fill == 0.0, "it quantizes what is padded with another number than zero", x.origin)
    key = (x.value, q)
    if key not in c.t.codes:
        shape = c.b.shape(x.value)
        c.t.codes[key] = c.b.emit("quantize", [x.value], name=f"{c.node.name}.quantize")
        c.b.values[c.t.codes[key]] = Value(c.t.codes[key], shape, q)
    return replace(x, value=c.t.codes[key])


def dequantized(c: Call, x: Operand) -> Operand:
    """The real numbers of an operand's codes."""
    key = (x.value,)
    if key not in c.t.codes:
        c.t.codes[key] = c.b.emit("dequantize", [x.value], name=f"{c.node.name}.dequantize")
    return replace(x, value=c.t.codes[key])


def _spread(c: Call, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Scales or zero points as elements of a tensor have them: one for all, one per channel, or of blocks."""
    if array.size == 1:
        return np.broadcast_to(array.reshape(()), shape)
    axis, block = c.integer("axis", 1), c.integer("block_size", 0)
    need(-len(shape) <= axis < len(shape), f"its axis {axis} is none of {len(shape)} dimensions")
    axis %= len(shape)
    if array.ndim == 1 and not block:
        need(array.size == shape[axis], f"its {array.size} scales do not fit {list(shape)} along {axis}")
        return np.broadcast_to(array.reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape)
    blocks = [-(-n // block) if i == axis and block > 0 else n for i, n in enumerate(shape)]
    need(list(array.shape) == blocks, f"its scales {list(array.shape)} do not fit {list(shape)}")
    return (
        np.take(np.repeat(array, min(block, shape[axis]), axis=axis), range(shape[axis]), axis=axis)
        if block > 0
        else array
    )


def _positive(scale: Constant) -> np.ndarray:
    array = np.asarray(scale.array, np.float32)
    need(bool((array > 0).all() and np.isfinite(array).all()), "a scale is not positive and finite")
    return array


def _codes(c: Call, x: Constant, scale: Constant, zero: Constant) -> Constant:
    """Weights that the file keeps as real numbers, on their grid."""
    need(
        zero.array.dtype in (np.uint8, np.int8), f"its codes are {zero.array.dtype}, not 8, 4 or 2 bits wide"
    )
    signed = zero.array.dtype == np.int8
    low = -(1 << (zero.bits - 1)) if signed else 0
    s, z = (_spread(c, array, x.array.shape) for array in (_positive(scale), zero.array))
    with np.errstate(over="ignore", invalid="ignore"):
        codes = np.rint(x.array / s) + z
    need(not np.isnan(codes).any(), "it rounds NaN")
    return Constant(np.clip(codes, low, low + (1 << zero.bits) - 1).astype(zero.array.dtype), bits=zero.bits)


def _numbers(c: Call, x: Constant, scale: Constant, zero: Constant | None) -> Constant:
    need(x.array.dtype.kind in "iu" and x.bits <= 32, f"its codes are {x.array.dtype}")
    s = _spread(c, _positive(scale), x.array.shape)
    codes = x.array.astype(np.int64)
    if zero is not None:
        codes = codes - _spread(c, zero.array.astype(np.int64), x.array.shape)
    need(bool((abs(codes) < 1 << 31).all()), "its codes do not fit 32 bits")
    return Constant((codes.astype(np.float64) * s).astype(np.float32), codes.astype(np.int32), s, x.bits)


def _part(c: Call, op: str, *inputs: Argument | None, **attrs: object) -> Call:
    """A call of an operator that lies inside the node."""
    node = OnnxNode(c.node.name, op, "", ("",) * len(inputs), c.node.outputs, {**c.node.attrs, **attrs})
    return replace(c, node=node, inputs=inputs)


def _real(c: Call, index: int, axis: int = 0) -> Argument:
    """The real numbers of input `index`, whose scale and zero point are the next two."""
    return _dequantize_linear(
        _part(c, "DequantizeLinear", *(c.given(index + i) for i in range(3)), axis=axis)
    )


def _back(c: Call, x: Operand, index: int) -> Argument:
    """The codes of a result, whose scale and zero point are inputs `index` and the next."""
    return _quantize_linear(_part(c, "QuantizeLinear", x, c.given(index), c.given(index + 1)))


def _bias(c: Call, index: int, weight: Constant) -> Constant | None:
    """int32 in units of the input's scale times the weights'."""
    if c.given(index) is None:
        return None
    codes, scale = c.constant(index, "bias").array, c.constant(1, "scale").array
    need(codes.dtype == np.int32 and weight.scale is not None, "its bias is not int32")
    assert weight.scale is not None
    rows = weight.scale.reshape(len(weight.scale), -1)[:, 0].astype(np.float64)
    unit = rows * np.float64(np.float32(scale.reshape(-1)[0]))
    need(codes.size == len(unit), f"its bias is {list(codes.shape)}")
    numbers = (codes.reshape(-1).astype(np.float64) * unit).astype(np.float32)
    return Constant(numbers, codes.reshape(-1), unit.astype(np.float32), 32)


def _operand(x: Argument) -> Operand:
    if isinstance(x, Constant):
        raise Rejected("its first tensor is a constant")
    return x


def _weight(x: Argument) -> Constant:
    if not isinstance(x, Constant):
        raise Rejected("its weight is computed from the image")
    return x


def _q_conv(c: Call) -> Argument:
    x, weight = _operand(_real(c, 0)), _weight(_real(c, 3))
    return _back(c, layers.convolution(c, x, weight, _bias(c, 8, weight)), 6)


def _q_matmul(c: Call) -> Argument:
    weight = _weight(_real(c, 3, axis=-1))
    need(weight.array.ndim == 2, "only a matrix as second operand")
    return _back(c, layers.linear(c, _operand(_real(c, 0)), weight.moved(np.transpose), None), 6)


def _q_gemm(c: Call) -> Argument:
    """com.microsoft.QGemm; without scale and zero point of its result, that is real numbers."""
    need(c.number("alpha", 1.0) == 1.0 and not c.integer("transA", 0), "only alpha 1 and no transA")
    transposed = bool(c.integer("transB", 0))
    weight = _weight(_real(c, 3, axis=0 if transposed else 1))
    need(weight.array.ndim == 2, "only a matrix as weights")
    weight = weight if transposed else weight.moved(np.transpose)
    result = layers.linear(c, _operand(_real(c, 0)), weight, _bias(c, 6, weight))
    return result if c.given(7) is None else _back(c, result, 7)


def _around(row: One, op: str, operands: int = 1) -> One:
    """`row` between the grids of the inputs and that of the result, each input with scale and zero point."""

    def wrapped(c: Call) -> Argument:
        inputs = [_operand(_real(c, 3 * i)) for i in range(operands)]
        return _back(c, _operand(row(_part(c, op, *inputs))), 3 * operands)

    return wrapped


def _q_concat(c: Call) -> Argument:
    """com.microsoft.QLinearConcat: scale and zero point of the result, then inputs with theirs."""
    need(len(c.inputs) >= 5 and (len(c.inputs) - 2) % 3 == 0, f"it has {len(c.inputs)} inputs")
    inputs = [_real(c, i) for i in range(2, len(c.inputs), 3)]
    return _back(c, _operand(elementwise.ROWS["Concat"](_part(c, "Concat", *inputs))), 0)


def _channels_first(rows: Callable[[Call], Argument]) -> One:
    def row(c: Call) -> Argument:
        need(not c.integer("channels_last", 0), "channels last is not read")
        return rows(c)

    return row


def _q_global_pool(c: Call) -> Argument:
    return _around(layers.ROWS["GlobalAveragePool"], "GlobalAveragePool")(c)


def _q_average_pool(c: Call) -> Argument:
    return _around(layers.ROWS["AveragePool"], "AveragePool")(c)


def _q_softmax(c: Call) -> Argument:
    """Left out as Softmax is, with the grid of its result."""
    return elementwise.ROWS["Softmax"](_part(c, "Softmax", _real(c, 0)))


ROWS: dict[str, One] = {
    "QuantizeLinear": _quantize_linear,
    "DequantizeLinear": _dequantize_linear,
    "QLinearConv": _q_conv,
    "QLinearMatMul": _q_matmul,
    "QGemm": _q_gemm,
    "QLinearAdd": _around(elementwise.ROWS["Add"], "Add", 2),
    "QLinearMul": _around(elementwise.ROWS["Mul"], "Mul", 2),
    "QLinearSigmoid": _around(elementwise.ROWS["Sigmoid"], "Sigmoid"),
    "QLinearLeakyRelu": _around(elementwise.ROWS["LeakyRelu"], "LeakyRelu"),
    "QLinearConcat": _q_concat,
    "QLinearGlobalAveragePool": _channels_first(_q_global_pool),
    "QLinearAveragePool": _channels_first(_q_average_pool),
    "QLinearSoftmax": _q_softmax,
}
