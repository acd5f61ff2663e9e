"""The verifier's arithmetic rules: grids, tables, accumulators. The bounds are those of
docs/spec/numerics.md: with them no intermediate integer of any executor can overflow.
"""

from __future__ import annotations

import numpy as np

from subbyte.errors import GraphError
from subbyte.ir.activations import CLAMP_ACTIVATIONS
from subbyte.ir.graph import Node, Value, pre_activation
from subbyte.ir.ops import OpDef
from subbyte.quant import QParams, QTensor, conv_multiplier, gate_multiplier_scale

FLOAT_DTYPES = (np.dtype(np.float32), np.dtype(np.float16))
MAX_GRID_RATIO = 2**20  # input scale / output scale where an op rescales codes
MAX_CODE = 2**30  # of a number before it is rounded and clamped to its grid


def _fail(node: Node, text: str) -> None:
    raise GraphError(f"node {node.name!r} ({node.op}): {text}")


def verify_grids(node: Node, op: OpDef, inputs: list[Value], output: Value) -> None:
    """Grids where the op needs them and nowhere else; tables; ratios of grids."""
    quantized = [v.q is not None for v in inputs]
    if node.op == "quantize" and (quantized[0] or output.q is None):
        _fail(node, "must turn float32 into a quantized value")
    if node.op == "dequantize" and (not quantized[0] or output.q is not None):
        _fail(node, "must turn a quantized value into float32")
    if node.op in ("quantize", "dequantize"):
        return
    if len(set(quantized)) != 1:
        _fail(node, "mixes float32 and quantized inputs")
    real_output = output.q is None
    if quantized[0] and not op.quantizable:
        _fail(node, "cannot work on quantized values; fold it first")
    if not quantized[0] and not real_output:
        _fail(node, "float32 inputs cannot make a quantized output; use quantize")
    if (
        quantized[0]
        and real_output
        and not (node.op in ("conv2d", "linear") and node.attrs["act"] == "none" and len(inputs) == 1)
    ):
        _fail(node, "only a conv2d or linear without activation and residual may turn codes into float32")
    if quantized[0] and op.keeps_grid and any(v.q != output.q for v in inputs):
        _fail(node, "must keep the grid of its inputs")
    if node.op == "mul" and quantized[0]:
        _verify_gate(node, *(v.q for v in (*inputs, output)))
    if node.op in ("add", "global_avg_pool") and output.q is not None:
        _verify_ratio(node, inputs, output.q)
    if node.op == "global_avg_pool" and inputs[0].shape[0] * inputs[0].shape[1] * 255 >= 1 << 31:
        _fail(node, "its sum can leave 31 bits; the image is too large")
    if "act" in node.attrs:
        _verify_table(node, quantized[0], len(inputs), output.q)


def _verify_gate(node: Node, x: QParams | None, gate: QParams | None, y: QParams | None) -> None:
    assert x is not None
    assert gate is not None
    assert y is not None
    largest = max(gate.zero_point, gate.qmax - gate.zero_point)
    with np.errstate(over="ignore", under="ignore"):
        factor = float(gate_multiplier_scale(x, gate, y)) * largest
    if not factor < 32767:
        _fail(node, "its gate factor does not fit 16 bits; the output grid is far too fine")


def _verify_ratio(node: Node, inputs: list[Value], y: QParams) -> None:
    for value in inputs:
        if value.q is not None and value.q.scale / y.scale >= MAX_GRID_RATIO:
            _fail(node, f"the grid of {value.name!r} is more than 2**20 times coarser than its output's")


def _verify_table(node: Node, quantized: bool, arity: int, y: QParams | None) -> None:
    # a quantized standalone activation is always a table: codes of one grid to codes of another
    if quantized and arity == 2 and node.attrs["act"] != "none":
        _fail(node, "a residual cannot follow an activation in one node; add it in a node of its own")
    wanted = quantized and (node.op == "activation" or node.attrs["act"] not in CLAMP_ACTIVATIONS)
    table = node.params.get("table")
    if wanted != (table is not None):
        _fail(node, "needs a table" if wanted else "has a table that nothing reads")
    if table is None:
        if "pre_scale" in node.attrs or "pre_zero" in node.attrs:
            _fail(node, "has a pre-activation grid but no table")
        if node.attrs["act"] == "relu6" and y is not None and 6.0 / y.scale >= MAX_CODE:
            _fail(node, "its six lies beyond 2**30 codes; the output grid is far too fine")
        return
    if isinstance(table, QTensor) or table.dtype != np.uint8 or table.shape != (256,):
        _fail(node, "table must be uint8 [256]")
        return
    if y is not None and int(table.max()) > y.qmax:
        _fail(node, f"its table makes code {int(table.max())}, its output ends at {y.qmax}")
    if node.op != "activation" and not {"pre_scale", "pre_zero"} <= node.attrs.keys():
        _fail(node, "needs pre_scale and pre_zero")


def verify_weight(node: Node, inputs: list[Value], output: Value) -> None:
    """Types and shapes of weight and bias, and that no accumulator or code can overflow."""
    weight, bias = node.params["weight"], node.params["bias"]
    x = inputs[0].q
    if x is None:
        if isinstance(weight, QTensor) or isinstance(bias, QTensor):
            _fail(node, "has quantized weights on a float32 input; quantize the input first")
            return
        if weight.dtype not in FLOAT_DTYPES or bias.dtype != np.float32 or bias.shape != weight.shape[:1]:
            _fail(node, "weight must be float32 or float16, bias float32 [O]")
        return
    if not isinstance(weight, QTensor):
        _fail(node, "has float weights on a quantized input; dequantize the input first")
        return
    if isinstance(bias, QTensor) or bias.dtype != np.int32 or bias.shape != weight.shape[:1]:
        _fail(node, "bias must be int32 [O]")
        return
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
        _fail(node, "its accumulator can leave 31 bits")
    with np.errstate(over="ignore", under="ignore"):
        multiplier = conv_multiplier(x, weight.scale, target).astype(np.float64)
    limit = MAX_CODE if target is not None else float(np.finfo(np.float32).max)
    if not (np.isfinite(multiplier).all() and float((total * multiplier).max()) < limit):
        _fail(node, "its scales lead far outside its output's grid; they are damaged")
