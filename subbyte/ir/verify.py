"""The rules a graph obeys. Run after every pass, before writing and after reading a file."""

from __future__ import annotations

import math

import numpy as np

from subbyte.errors import GraphError
from subbyte.ir.graph import Graph, Node, Value, pre_activation
from subbyte.ir.ops import ACTIVATIONS, CLAMP_ACTIVATIONS, OPS, OpDef
from subbyte.quant import QParams, QTensor, conv_multiplier, gate_multiplier_scale

MAX_EXTENT = 1 << 16
MAX_ELEMENTS = 1 << 28  # of one value, per image
FLOAT_DTYPES = (np.dtype(np.float32), np.dtype(np.float16))


def _fail(node: Node, text: str) -> None:
    raise GraphError(f"node {node.name!r} ({node.op}): {text}")


def verify(graph: Graph) -> Graph:
    """Returns the graph unchanged, or raises GraphError naming the first broken rule.

    Rules: single assignment in execution order; known ops with their arity, attributes and
    parameters; shapes that follow; grids where an op needs them and nowhere else; finite
    parameters; accumulators that cannot leave 31 bits.
    """
    _verify_value(graph.value(graph.input))
    if graph.value(graph.input).q is not None:
        raise GraphError("the graph's input must be float32")
    known, names = {graph.input}, set()
    for node in graph.nodes:
        if node.name in names:
            raise GraphError(f"two nodes are called {node.name!r}")
        names.add(node.name)
        if node.output in known:
            _fail(node, f"value {node.output!r} is assigned twice")
        for name in node.inputs:
            if name not in known:
                _fail(node, f"reads {name!r}, which no earlier node makes")
        _verify_node(graph, node)
        known.add(node.output)
    if not graph.outputs or len(set(graph.outputs)) != len(graph.outputs):
        raise GraphError("a graph needs at least one output, each named once")
    for name in graph.outputs:
        if name not in known or name == graph.input:
            raise GraphError(f"output {name!r} is made by no node")
    if set(graph.values) != known:
        raise GraphError(f"values without a producer: {sorted(set(graph.values) - known)[:3]}")
    return graph


def _verify_value(value: Value) -> None:
    if len(value.shape) not in (1, 3) or not all(1 <= n <= MAX_EXTENT for n in value.shape):
        raise GraphError(
            f"value {value.name!r}: shape {value.shape} is not (H, W, C) or (C,) within 1..{MAX_EXTENT}"
        )
    if math.prod(value.shape) > MAX_ELEMENTS:
        raise GraphError(f"value {value.name!r}: {value.shape} has more than {MAX_ELEMENTS} elements")


def _verify_node(graph: Graph, node: Node) -> None:
    op = OPS.get(node.op)
    if op is None:
        raise GraphError(f"node {node.name!r}: unknown op {node.op!r}; known: {', '.join(OPS)}")
    if not op.arity[0] <= len(node.inputs) <= op.arity[1]:
        _fail(node, f"has {len(node.inputs)} inputs, needs {op.arity[0]}..{op.arity[1]}")
    _verify_fields(node, op)
    inputs, output = [graph.value(n) for n in node.inputs], graph.value(node.output)
    _verify_value(output)
    shape = op.shape(node, [v.shape for v in inputs])
    if shape != output.shape:
        _fail(node, f"makes shape {shape}, but its output says {output.shape}")
    _verify_grids(node, op, inputs, output)
    if op.params and "weight" in op.params and node.op != "batch_norm":
        _verify_weight(node, inputs, output)


def _verify_fields(node: Node, op: OpDef) -> None:
    have = {*node.attrs, *node.params}
    missing = {*op.attrs, *op.params} - have
    extra = have - {*op.attrs, *op.params, *op.optional}
    if missing or extra:
        _fail(node, f"missing {sorted(missing)}, unexpected {sorted(extra)}")
    if node.attrs.get("act", "none") not in ACTIVATIONS:
        _fail(node, f"unknown activation {node.attrs['act']!r}; known: {', '.join(ACTIVATIONS)}")
    for role, param in node.params.items():
        if isinstance(param, np.ndarray) and param.dtype.kind == "f" and not np.isfinite(param).all():
            _fail(node, f"{role} holds NaN or infinity; the weights are damaged")


def _verify_grids(node: Node, op: OpDef, inputs: list[Value], output: Value) -> None:
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
    if "act" in node.attrs:
        _verify_table(node, quantized[0], len(inputs))


def _verify_gate(node: Node, x: QParams | None, gate: QParams | None, y: QParams | None) -> None:
    assert x and gate and y
    largest = max(gate.zero_point, gate.qmax - gate.zero_point)
    if not float(gate_multiplier_scale(x, gate, y)) * largest < 32767:
        _fail(node, "its gate factor does not fit 16 bits; the output grid is far too fine")


def _verify_table(node: Node, quantized: bool, arity: int) -> None:
    # a quantized standalone activation is always a table: codes of one grid to codes of another
    wanted = quantized and (node.op == "activation" or node.attrs["act"] not in CLAMP_ACTIVATIONS)
    table = node.params.get("table")
    if wanted != (table is not None):
        _fail(node, "needs a table" if wanted else "has a table that nothing reads")
    if table is None:
        if "pre_scale" in node.attrs or "pre_zero" in node.attrs:
            _fail(node, "has a pre-activation grid but no table")
        return
    if isinstance(table, QTensor) or table.dtype != np.uint8 or table.shape != (256,):
        _fail(node, "table must be uint8 [256]")
    if node.op != "activation":
        if arity == 2:
            _fail(node, "a residual cannot follow a table activation in one node")
        if "pre_scale" not in node.attrs or "pre_zero" not in node.attrs:
            _fail(node, "needs pre_scale and pre_zero")


def _verify_weight(node: Node, inputs: list[Value], output: Value) -> None:
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
    axes = tuple(range(1, len(weight.shape)))
    total = np.abs(weight.values().astype(np.int64)).sum(axis=axes) * 255 + np.abs(bias.astype(np.int64))
    if int(total.max()) >= 1 << 31:
        _fail(node, "its accumulator can leave 31 bits")
    target = pre_activation(node, output)
    with np.errstate(over="ignore"):
        multiplier = conv_multiplier(x, weight.scale, target)
    if not np.isfinite(multiplier).all() or (
        target is not None and float((total * multiplier).max()) >= 2**30
    ):
        _fail(node, "its scales make values beyond 2**30 codes; the grids are damaged")
    if len(inputs) == 2 and inputs[1].q and output.q and inputs[1].q.scale / output.q.scale >= 2**20:
        _fail(node, "its residual's grid is more than 2**20 times coarser than its output's")
