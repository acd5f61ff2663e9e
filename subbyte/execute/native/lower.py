"""A graph as the native engine's descriptors: names to indices, grids to multipliers, codes packed."""

from __future__ import annotations

from typing import Any

import numpy as np

from subbyte import _native
from subbyte.errors import GraphError
from subbyte.execute.native import ops
from subbyte.ir import OPS, Graph, Node, Value, is_weighted
from subbyte.ir.activations import parse_activation
from subbyte.ir.graph import pre_activation, weights_of
from subbyte.ir.ops import refusal
from subbyte.quant import QTensor, clamp_bounds, conv_multiplier, uniform_levels
from subbyte.quant.packing import pack

f32 = np.float32
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
        levels = value.q.levels is not None
        d.quantized, d.bits, d.level_bits = True, 8 if levels else value.q.bits, value.q.bits * levels
        d.scale, d.zero_point = value.q.scale, value.q.zero_point
    return d


def _node(graph: Graph, node: Node, index: dict[str, int]) -> Any:
    if reason := refusal(node, "native", "the engine"):
        raise GraphError(reason)
    row = ops.OPS[node.op]
    d = _native.NodeDesc()
    d.name = node.name
    d.op = getattr(_native.Op, row.engine)
    d.inputs, d.output = [index[n] for n in node.inputs], index[node.output]
    act, parameters = parse_activation(node.attrs.get("act", "none"))
    d.set_activation(getattr(_native.Act, act.name), *parameters, *[0.0] * (3 - len(parameters)))
    inputs, output = [graph.value(n) for n in node.inputs], graph.value(node.output)
    if "stride" in node.attrs:
        d.set_window(*OPS[node.op].kernel(node), *node.attrs["stride"], *node.attrs["pad"])
    elif "pad" in node.attrs:
        d.set_window(1, 1, 1, 1, *node.attrs["pad"])
    d.numbers = row.numbers(node)
    d.dilation_h, d.dilation_w = node.attrs.get("dilation", (1, 1))
    d.eps = node.attrs.get("eps", 0.0)
    d.groups = node.attrs.get("groups", 1)
    if is_weighted(node):
        _convolution(d, node, inputs, output)
    elif "weight" in node.params:
        d.set_real(*(np.ascontiguousarray(node.params[role]) for role in ("weight", "bias")))
    if "table" in node.params:
        d.set_table(np.ascontiguousarray(node.params["table"]))
    if output.q is not None:
        d.factor_a, d.factor_b = row.factors(inputs, output)
    if (multiplier := row.multiplier(node, inputs, output)) is not None:
        d.set_multiplier(np.ascontiguousarray(multiplier))
    return d


def _convolution(d: Any, node: Node, inputs: list[Value], output: Value) -> None:
    weight, bias = node.params["weight"], np.asarray(node.params["bias"])
    d.weight_format = str(weights_of(node))
    if not isinstance(weight, QTensor):
        d.set_real(np.ascontiguousarray(weight, f32).reshape(-1), np.ascontiguousarray(bias))
        return
    target = pre_activation(node, output)
    multiplier = conv_multiplier(inputs[0].grid, weight.scale, target)
    d.set_codes(*_engine_codes(weight), np.ascontiguousarray(bias), multiplier)
    if "table" in node.params:
        assert target is not None
        d.pre_zero = target.zero_point
    elif output.q is not None:
        d.clamp_low, d.clamp_high = clamp_bounds(node.attrs["act"], output.q)


def _engine_codes(weight: QTensor) -> tuple[np.ndarray, np.ndarray]:
    """Packed codes and code book, in a width that the engine has kernels for. Codes of a pattern become dense
    ones, those of a width that it does not know 8-bit values, and the plan says so."""
    width = CODE_BITS.get(str(weight.format.dense))
    if width is None:
        return weight.values().view(np.uint8).reshape(-1), uniform_levels(8)
    unused = np.zeros((1 << width) - len(weight.levels), np.int8)
    return pack(weight.codes, width), np.concatenate([weight.levels, unused])
