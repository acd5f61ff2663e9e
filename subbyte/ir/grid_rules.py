"""What each operation asks of grids, tables, weights and accumulators: the rules in the table of ops.

The bounds are those of docs/spec/numerics.md: with them no intermediate integer of any executor can
overflow. A rule takes the node, its inputs and its output, and raises GraphError.
"""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from subbyte.errors import GraphError
from subbyte.ir.activations import CLAMP_ACTIVATIONS
from subbyte.ir.graph import Node, Value, pre_activation
from subbyte.quant import QParams, QTensor, conv_multiplier, gate_multiplier_scale, product_multiplier

FLOAT_DTYPES = (np.dtype(np.float32), np.dtype(np.float16))
MAX_GRID_RATIO = 2**20  # input scale / output scale where an op rescales codes
MAX_CODE = 2**30  # of a number before it is rounded and clamped to its grid
MAX_CHANNEL_SCALE = 2.0**16  # of mul, and one over it the least; of a prelu's slopes
MAX_PRODUCT = 2**14  # of what multiplies the product of two codes
MAX_SLOPE = 2**22  # of what multiplies a code below zero


def fail(node: Node, text: str) -> NoReturn:
    """GraphError that names the node."""
    raise GraphError(f"node {node.name!r} ({node.op}): {text}")


def any_grids(node: Node, inputs: list[Value], output: Value) -> None:
    """Nothing beyond what holds for every operation."""


def quantize(node: Node, inputs: list[Value], output: Value) -> None:
    """From float32 to a grid."""
    if inputs[0].q is not None or output.q is None:
        fail(node, "must turn float32 into a quantized value")


def dequantize(node: Node, inputs: list[Value], output: Value) -> None:
    """From a grid to float32."""
    if inputs[0].q is None or output.q is not None:
        fail(node, "must turn a quantized value into float32")


def ratio(node: Node, inputs: list[Value], output: Value) -> None:
    """No input's grid is so much coarser than the output's that codes leave their range."""
    if output.q is not None:
        _verify_ratio(node, inputs, output.q)


def pooled_sum(node: Node, inputs: list[Value], output: Value) -> None:
    """A ratio, and a sum over all positions that fits 31 bits."""
    ratio(node, inputs, output)
    if inputs[0].shape[0] * inputs[0].shape[1] * 255 >= 1 << 31:
        fail(node, "its sum can leave 31 bits; the image is too large")


def gate(node: Node, inputs: list[Value], output: Value) -> None:
    """A gate's channel_scale, and that its factors fit 16 bits."""
    _verify_channel_scale(node, output.shape[-1])
    if output.q is not None:
        _verify_gate(node, *(v.grid for v in (*inputs, output)))


def product(node: Node, inputs: list[Value], output: Value) -> None:
    """A product of two codes that stays within a number's range."""
    if output.q is None:
        return
    with np.errstate(over="ignore", under="ignore"):
        factor = float(product_multiplier(*(v.grid for v in (*inputs, output))))
    if not factor < MAX_PRODUCT:
        fail(node, "its product leads far outside its output's grid; the output grid is far too fine")


def slopes(node: Node, inputs: list[Value], output: Value) -> None:
    """A ratio, and float32 slopes within 2**16 that lead to no number far outside the grid."""
    slope = channel_number(node, "slope")
    if np.abs(slope).max() > MAX_CHANNEL_SCALE:
        fail(node, "slope must be within -2**16..2**16")
    ratio(node, inputs, output)
    if (
        output.q is not None
        and not (np.abs(slope_multipliers(node, inputs[0].grid, output.q)) < MAX_SLOPE).all()
    ):
        fail(node, "a slope leads far outside its output's grid; the output grid is far too fine")


def channel_numbers(node: Node, inputs: list[Value], output: Value) -> None:
    """Parameters that are float32 numbers."""
    for role in node.params:
        channel_number(node, role)


def channel_number(node: Node, role: str) -> np.ndarray:
    """A float32 parameter; GraphError if it is none."""
    param = node.params[role]
    if isinstance(param, QTensor) or param.dtype != np.float32:
        fail(node, f"{role} must be float32")
    return param


def slope_multipliers(node: Node, x: QParams, y: QParams) -> np.ndarray:
    """Of a prelu on codes below zero, float32 [C]: fl(fl(s_x / s_y) * slope)."""
    ratio_ = np.float32(x.scale) / np.float32(y.scale)
    return np.asarray(ratio_ * np.asarray(node.params["slope"]))


def table(node: Node, inputs: list[Value], output: Value) -> None:
    """A standalone activation: on codes always a table, from one grid to another."""
    _verify_table(node, inputs[0].q is not None, output.q)


def layer(node: Node, inputs: list[Value], output: Value) -> None:
    """A layer with weights: its table, types and shapes, and accumulators that cannot overflow."""
    quantized, act = inputs[0].q is not None, node.attrs["act"]
    if quantized and len(inputs) == 2 and act != "none":
        fail(node, "a residual cannot follow an activation in one node; add it in a node of its own")
    wanted = quantized and makes_table(act, output.q)
    _verify_table(node, wanted, output.q)
    carried = {"pre_scale", "pre_zero"} & node.attrs.keys()
    if not wanted and carried:
        fail(node, "has a pre-activation grid but no table")
    if wanted and len(carried) < 2:
        fail(node, "needs pre_scale and pre_zero")
    if act == "relu6" and output.q is not None and 6.0 / output.q.scale >= MAX_CODE:
        fail(node, "its six lies beyond 2**30 codes; the output grid is far too fine")
    _verify_weight(node, inputs, output)


def makes_table(act: str, y: QParams | None) -> bool:
    """Whether a quantized layer ends with a table behind an 8-bit grid: no clamp makes these codes."""
    return act not in CLAMP_ACTIVATIONS or (y is not None and y.levels is not None)


def statistics(node: Node, inputs: list[Value], output: Value) -> None:
    """Batch normalization: float parameters, and a variance that can be one."""
    for role, param in node.params.items():
        if isinstance(param, QTensor) or param.dtype not in FLOAT_DTYPES:
            fail(node, f"{role} must be float32 or float16")
    if float(np.min(np.asarray(node.params["var"]))) < 0:
        fail(node, "var is negative; the weights are damaged")


def _verify_channel_scale(node: Node, channels: int) -> None:
    scale = node.params.get("channel_scale")
    if scale is None:
        return
    if isinstance(scale, QTensor) or scale.dtype != np.float32 or scale.shape != (channels,):
        fail(node, f"channel_scale must be float32 [{channels}]")
    if not (scale.min() >= 1 / MAX_CHANNEL_SCALE and scale.max() <= MAX_CHANNEL_SCALE):
        fail(node, "channel_scale must be within 2**-16..2**16")


def _verify_gate(node: Node, x: QParams, gate: QParams, y: QParams) -> None:
    largest = max(gate.zero_point, gate.qmax - gate.zero_point)
    scale = node.params.get("channel_scale")
    assert not isinstance(scale, QTensor)
    with np.errstate(over="ignore", under="ignore"):
        factor = float(gate_multiplier_scale(x, gate, y, scale).max()) * largest
    if not factor < 32767:
        fail(node, "its gate factor does not fit 16 bits; the output grid is far too fine")


def _verify_ratio(node: Node, inputs: list[Value], y: QParams) -> None:
    for value in inputs:
        if value.q is not None and value.q.scale / y.scale >= MAX_GRID_RATIO:
            fail(node, f"the grid of {value.name!r} is more than 2**20 times coarser than its output's")


def _verify_table(node: Node, wanted: bool, y: QParams | None) -> None:
    table = node.params.get("table")
    if wanted != (table is not None):
        fail(node, "needs a table" if wanted else "has a table that nothing reads")
    if table is None:
        return
    if isinstance(table, QTensor) or table.dtype != np.uint8 or table.shape != (256,):
        fail(node, "table must be uint8 [256]")
    if y is not None and int(table.max()) > y.qmax:
        fail(node, f"its table makes code {int(table.max())}, its output ends at {y.qmax}")
    if y is not None and y.levels is not None and not np.isin(table, y.levels).all():
        fail(node, f"its table makes code {int(table[~np.isin(table, y.levels)][0])}, which is no level")


def _verify_weight(node: Node, inputs: list[Value], output: Value) -> None:
    """Types and shapes of weight and bias, and that no accumulator or code can overflow."""
    weight, bias = node.params["weight"], node.params["bias"]
    x = inputs[0].q
    if x is None:
        if isinstance(weight, QTensor) or isinstance(bias, QTensor):
            fail(node, "has quantized weights on a float32 input; quantize the input first")
        if weight.dtype not in FLOAT_DTYPES or bias.dtype != np.float32 or bias.shape != weight.shape[:1]:
            fail(node, "weight must be float32 or float16, bias float32 [O]")
        return
    if not isinstance(weight, QTensor):
        fail(node, "has float weights on a quantized input; dequantize the input first")
    if isinstance(bias, QTensor) or bias.dtype != np.int32 or bias.shape != weight.shape[:1]:
        fail(node, "bias must be int32 [O]")
    _verify_accumulator(node, x, weight, bias, pre_activation(node, output))
    if len(inputs) == 2 and output.q is not None:
        _verify_ratio(node, inputs[1:], output.q)


def _verify_accumulator(
    node: Node, x: QParams, weight: QTensor, bias: np.ndarray, target: QParams | None
) -> None:
    magnitudes = np.abs(weight.levels.astype(np.int16)).astype(np.uint8)[weight.codes]
    sums = magnitudes.reshape(weight.shape[0], -1).sum(axis=1, dtype=np.int64)
    total = sums * 255 + np.abs(bias.astype(np.int64))
    if int(total.max()) >= 1 << 31:
        fail(node, "its accumulator can leave 31 bits")
    with np.errstate(over="ignore", under="ignore"):
        multiplier = conv_multiplier(x, weight.scale, target).astype(np.float64)
    limit = MAX_CODE if target is not None else float(np.finfo(np.float32).max)
    if not (np.isfinite(multiplier).all() and float((total * multiplier).max()) < limit):
        fail(node, "its scales lead far outside its output's grid; they are damaged")
