"""Runs a graph node by node on a batch. docs/spec/numerics.md in code."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from subbyte.errors import InputError
from subbyte.execute.reference.windows import patches
from subbyte.ir import Graph, Node, Value, activation_function
from subbyte.ir.graph import pre_activation
from subbyte.quant import (
    QParams,
    QTensor,
    clamp_bounds,
    conv_multiplier,
    gate_multiplier_scale,
)

f32 = np.float32


def run(graph: Graph, x: np.ndarray, *, keep: bool = False) -> dict[str, np.ndarray]:
    """Executes `graph` on x, float32 [N, H, W, C].

    Returns the outputs by value name (every value if `keep`): float32 arrays, or uint8 codes for
    quantized values, each with a leading batch dimension.

    Raises InputError if x has another shape or dtype than the graph's input, or is not finite.
    """
    expected = graph.value(graph.input).shape
    if x.dtype != np.float32 or x.shape[1:] != expected:
        raise InputError(
            f"input must be float32 [N, {', '.join(map(str, expected))}], got {x.dtype} {list(x.shape)}"
        )
    if not np.isfinite(x).all():
        raise InputError("input holds NaN or infinity")
    values: dict[str, np.ndarray] = {graph.input: x}
    for node in graph.nodes:
        arrays = [values[name] for name in node.inputs]
        values[node.output] = run_node(graph, node, arrays)
    return values if keep else {name: values[name] for name in graph.outputs}


def run_node(graph: Graph, node: Node, arrays: list[np.ndarray]) -> np.ndarray:
    """One node on arrays with a leading batch dimension: float32, or uint8 codes."""
    inputs = [graph.value(name) for name in node.inputs]
    return _OPS[node.op](node, arrays, inputs, graph.value(node.output))


Op = Callable[[Node, list[np.ndarray], list[Value], Value], np.ndarray]


def _grid(value: Value) -> QParams:
    assert value.q is not None
    return value.q


def _store(v: np.ndarray, q: QParams, low: int = 0, high: int | None = None) -> np.ndarray:
    """clamp(rne(v) + z, low, high) for float32 v."""
    assert v.dtype == np.float32
    codes = np.rint(v).astype(np.int64) + q.zero_point
    return np.clip(codes, low, q.qmax if high is None else high).astype(np.uint8)


def _centred(codes: np.ndarray, q: QParams) -> np.ndarray:
    return codes.astype(np.int32) - q.zero_point


def _accumulate(node: Node, x: np.ndarray) -> np.ndarray:
    """Σ x·w + bias in float64, [N, ..., O]; exact when all terms are integers below 2**31."""
    weight, bias = node.params["weight"], node.params["bias"]
    assert isinstance(bias, np.ndarray)
    w = (weight.values() if isinstance(weight, QTensor) else weight).astype(np.float64)
    if node.op == "linear":
        return x @ w.T + bias
    groups, out_channels = node.attrs["groups"], w.shape[0]
    columns = patches(x, w.shape[1:3], node.attrs["stride"], node.attrs["pad"])  # [N, Ho, Wo, kh*kw, C]
    n, ho, wo, taps, channels = columns.shape
    columns = columns.reshape(n, ho, wo, taps, groups, channels // groups)
    w = w.reshape(groups, out_channels // groups, taps, channels // groups)
    if channels == groups and out_channels == groups:  # depthwise
        result = np.einsum("nhwtc,ct->nhwc", columns[..., 0], w[:, 0, :, 0])
    else:
        result = np.stack(
            [np.tensordot(columns[..., g, :], w[g], axes=([3, 4], [1, 2])) for g in range(groups)], axis=3
        ).reshape(n, ho, wo, out_channels)
    return result + bias


def _conv(node: Node, arrays: list[np.ndarray], inputs: list[Value], output: Value) -> np.ndarray:
    if inputs[0].q is None:
        return _float_conv(node, arrays)
    weight, x = node.params["weight"], inputs[0].q
    assert isinstance(weight, QTensor)
    acc = _accumulate(node, _centred(arrays[0], x).astype(np.float64)).astype(np.int64)
    target = pre_activation(node, output)
    v = acc.astype(f32) * conv_multiplier(x, weight.scale, target)
    if target is None:
        return v
    if "table" in node.params:
        return node.params["table"][_store(v, target)]  # type: ignore[index]
    y = _grid(output)
    if len(arrays) == 2:
        r = _grid(inputs[1])
        v = v + _centred(arrays[1], r).astype(f32) * (f32(r.scale) / f32(y.scale))
    return _store(v, y, *clamp_bounds(node.attrs["act"], y))


def _float_conv(node: Node, arrays: list[np.ndarray]) -> np.ndarray:
    result = activation_function(node.attrs["act"])(_accumulate(node, arrays[0].astype(np.float64)))
    if len(arrays) == 2:
        result = result + arrays[1]
    return result.astype(f32)


def _quantize(node: Node, arrays: list[np.ndarray], inputs: list[Value], output: Value) -> np.ndarray:
    return _grid(output).quantize(arrays[0])


def _dequantize(node: Node, arrays: list[np.ndarray], inputs: list[Value], output: Value) -> np.ndarray:
    return _grid(inputs[0]).dequantize(arrays[0])


def _batch_norm(node: Node, arrays: list[np.ndarray], inputs: list[Value], output: Value) -> np.ndarray:
    p = {role: np.asarray(param, np.float64) for role, param in node.params.items()}
    scale = p["weight"] / np.sqrt(p["var"] + node.attrs["eps"])
    return ((arrays[0] - p["mean"]) * scale + p["bias"]).astype(f32)


def _activation(node: Node, arrays: list[np.ndarray], inputs: list[Value], output: Value) -> np.ndarray:
    if inputs[0].q is not None:
        return node.params["table"][arrays[0]]  # type: ignore[index]
    return activation_function(node.attrs["act"])(arrays[0].astype(np.float64)).astype(f32)


def _add(node: Node, arrays: list[np.ndarray], inputs: list[Value], output: Value) -> np.ndarray:
    if inputs[0].q is None:
        return arrays[0] + arrays[1]
    a, b, y = _grid(inputs[0]), _grid(inputs[1]), _grid(output)
    left = _centred(arrays[0], a).astype(f32) * (f32(a.scale) / f32(y.scale))
    right = _centred(arrays[1], b).astype(f32) * (f32(b.scale) / f32(y.scale))
    return _store(left + right, y)


def gate_factors(codes: np.ndarray, x: QParams, gate: QParams, y: QParams) -> np.ndarray:
    """The Q15 factors G of op `mul`, int64, shape of `codes`."""
    scaled = _centred(codes, gate).astype(f32) * gate_multiplier_scale(x, gate, y)
    return np.clip(np.rint(scaled), -32768, 32767).astype(np.int64)


def _mul(node: Node, arrays: list[np.ndarray], inputs: list[Value], output: Value) -> np.ndarray:
    if inputs[0].q is None:
        return arrays[0] * arrays[1]
    x, y = _grid(inputs[0]), _grid(output)
    factors = gate_factors(arrays[1], x, _grid(inputs[1]), y)
    product = _centred(arrays[0], x).astype(np.int64) * 128 * factors
    return np.clip(((product + (1 << 14)) >> 15) + y.zero_point, 0, y.qmax).astype(np.uint8)


def _global_avg_pool(node: Node, arrays: list[np.ndarray], inputs: list[Value], output: Value) -> np.ndarray:
    if inputs[0].q is None:
        return arrays[0].astype(np.float64).mean(axis=(1, 2), keepdims=True).astype(f32)
    x, y = inputs[0].q, _grid(output)
    total = _centred(arrays[0], x).astype(np.int64).sum(axis=(1, 2), keepdims=True)
    positions = arrays[0].shape[1] * arrays[0].shape[2]
    return _store(total.astype(f32) * (f32(x.scale) / f32(y.scale) / f32(positions)), y)


def _max_pool2d(node: Node, arrays: list[np.ndarray], inputs: list[Value], output: Value) -> np.ndarray:
    lowest = 0 if inputs[0].q is not None else -np.inf
    columns = patches(arrays[0], tuple(node.attrs["kernel"]), node.attrs["stride"], node.attrs["pad"], lowest)
    return columns.max(axis=3)


def _concat(node: Node, arrays: list[np.ndarray], inputs: list[Value], output: Value) -> np.ndarray:
    return np.concatenate(arrays, axis=-1)


def _flatten(node: Node, arrays: list[np.ndarray], inputs: list[Value], output: Value) -> np.ndarray:
    return arrays[0].reshape(arrays[0].shape[0], -1)


_OPS: dict[str, Op] = {
    "quantize": _quantize,
    "dequantize": _dequantize,
    "conv2d": _conv,
    "linear": _conv,
    "batch_norm": _batch_norm,
    "activation": _activation,
    "add": _add,
    "mul": _mul,
    "global_avg_pool": _global_avg_pool,
    "max_pool2d": _max_pool2d,
    "concat": _concat,
    "flatten": _flatten,
}
