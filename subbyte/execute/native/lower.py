"""A graph as the native engine's descriptors: names to indices, grids to multipliers, codes packed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from subbyte import _native
from subbyte.errors import GraphError
from subbyte.ir import Graph, Node, Value
from subbyte.ir.activations import parse_activation
from subbyte.ir.graph import pre_activation
from subbyte.quant import QParams, QTensor, clamp_bounds, conv_multiplier, gate_multiplier_scale
from subbyte.quant.packing import pack
from subbyte.quant.qtensor import uniform_levels

f32 = np.float32
#: The engine's operation, where it is called otherwise.
ENGINE_OPS = {"linear": "conv2d"}
#: Bits of the codes that the engine is given, for the formats that it reads, each also with a code book.
CODE_BITS = {"int8": 8, "int4": 4, "int3": 4, "int2": 2}


def lower(graph: Graph) -> dict[str, Any]:
    """The arguments `values`, `nodes`, `input`, `outputs` of `_native.Model` for a verified graph."""
    index = {name: i for i, name in enumerate(graph.values)}
    return {
        "values": [_value(v) for v in graph.values.values()],
        "nodes": [_node(graph, n, index) for n in graph.nodes],
        "input": index[graph.input],
        "outputs": [index[name] for name in graph.outputs],
    }


def _value(value: Value) -> Any:
    d = _native.ValueDesc()
    d.name = value.name
    d.height, d.width, d.channels = value.shape if len(value.shape) == 3 else (1, 1, value.shape[0])
    if value.q is not None:
        d.quantized, d.bits = True, value.q.bits
        d.scale, d.zero_point = value.q.scale, value.q.zero_point
    return d


def _node(graph: Graph, node: Node, index: dict[str, int]) -> Any:
    op = getattr(_native.Op, ENGINE_OPS.get(node.op, node.op), None)
    if op is None:
        raise GraphError(
            f"node {node.name!r}: the engine has no {node.op}; fold it with subbyte.passes.optimize first"
        )
    d = _native.NodeDesc()
    d.name = node.name
    d.op = op
    d.inputs, d.output = [index[n] for n in node.inputs], index[node.output]
    row, parameters = parse_activation(node.attrs.get("act", "none"))
    d.set_activation(getattr(_native.Act, row.name), *parameters, *[0.0] * (3 - len(parameters)))
    inputs, output = [graph.value(n) for n in node.inputs], graph.value(node.output)
    if "weight" in node.params:
        _convolution(d, node, inputs, output)
    elif "kernel" in node.attrs:
        d.set_window(*node.attrs["kernel"], *node.attrs["stride"], *node.attrs["pad"])
    if "table" in node.params:
        d.set_table(np.ascontiguousarray(node.params["table"]))
    if output.q is not None and node.op in FACTORS:
        factors = FACTORS[node.op](inputs, output.q)
        d.factor_a, d.factor_b = (float(f) for f in (*factors, f32(0), f32(0))[:2])
    return d


def _convolution(d: Any, node: Node, inputs: list[Value], output: Value) -> None:
    weight, bias = node.params["weight"], np.asarray(node.params["bias"])
    if "stride" in node.attrs:
        d.set_window(*weight.shape[1:3], *node.attrs["stride"], *node.attrs["pad"])
        d.groups = node.attrs["groups"]
    d.weight_format = _format(weight)
    if not isinstance(weight, QTensor):
        d.set_real(np.ascontiguousarray(weight, f32).reshape(-1), np.ascontiguousarray(bias))
        return
    x, target = inputs[0].q, pre_activation(node, output)
    assert x is not None
    multiplier = conv_multiplier(x, weight.scale, target)
    d.set_codes(*_engine_codes(weight), np.ascontiguousarray(bias), multiplier)
    if "table" in node.params:
        assert target is not None
        d.pre_zero = target.zero_point
    elif output.q is not None:
        d.clamp_low, d.clamp_high = clamp_bounds(node.attrs["act"], output.q)


def _format(weight: QTensor | np.ndarray) -> str:
    """As the plan shows what was asked for."""
    if not isinstance(weight, QTensor):
        return "fp16" if weight.dtype == np.float16 else "fp32"
    return f"int{weight.bits}" + "+book" * (not weight.is_uniform)


def _engine_codes(weight: QTensor) -> tuple[np.ndarray, np.ndarray]:
    """Packed codes and code book, in a width that the engine has kernels for. A format that it does not know
    becomes dense 8-bit values, and the plan says so."""
    width = CODE_BITS.get(_format(weight).removesuffix("+book"))
    if width is None:
        return weight.values().view(np.uint8).reshape(-1), uniform_levels(8)
    unused = np.zeros((1 << width) - len(weight.levels), np.int8)
    return pack(weight.codes, width), np.concatenate([weight.levels, unused])


def _grid(value: Value) -> QParams:
    assert value.q is not None
    return value.q


def _ratio(value: Value, y: QParams) -> np.float32:
    return f32(_grid(value).scale) / f32(y.scale)


def _mean(x: Value, y: QParams) -> np.float32:
    return _ratio(x, y) / f32(x.shape[0] * x.shape[1])


#: The scalar multipliers of numerics.md, of the operations that have some: inputs and output grid.
FACTORS: dict[str, Callable[[list[Value], QParams], Sequence[np.float32]]] = {
    "conv2d": lambda x, y: [_ratio(residual, y) for residual in x[1:]],
    "add": lambda x, y: [_ratio(value, y) for value in x],
    "mul": lambda x, y: [gate_multiplier_scale(_grid(x[0]), _grid(x[1]), y)],
    "global_avg_pool": lambda x, y: [_mean(x[0], y)],
}
