"""Dequantizing a graph leaves the network its codes stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from subbyte.execute.reference import activation_function, run
from subbyte.execute.reference.executor import run_node
from subbyte.ir import Graph, Node, Value, verify
from subbyte.ir.graph import Param
from subbyte.passes.dequantize import dequantize_graph
from subbyte.quant import QParams, activation_table, quantize_bias, quantize_weight, weight_format

X, PRE, Y = QParams(0.0625, 128), QParams(0.125, 120), QParams(0.0625, 10)


def conv(act: str, bits: int = 4) -> Node:
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.02, 0.05, 5).astype(np.float32)
    weight = quantize_weight(rng.normal(0, 0.1, (5, 3, 3, 2)).astype(np.float32), scale, weight_format(bits))
    bias = quantize_bias(rng.normal(0, 0.3, 5).astype(np.float32), X, scale)
    attrs: dict[str, Any] = {"stride": (1, 1), "pad": (1, 1, 1, 1), "groups": 1, "act": act}
    params: dict[str, Param] = {"weight": weight, "bias": bias}
    if act == "silu":
        attrs |= {"pre_scale": PRE.scale, "pre_zero": PRE.zero_point}
        params["table"] = activation_table(activation_function(act), PRE, Y)
    return Node("conv", "conv2d", ("codes",), "y", attrs, params)


def quantized(act: str) -> Graph:
    values = [
        Value("x", (6, 5, 2)),
        Value("codes", (6, 5, 2), X),
        Value("y", (6, 5, 5), Y),
        Value("real", (6, 5, 5)),
    ]
    nodes = (
        Node("q", "quantize", ("x",), "codes"),
        conv(act),
        Node("dq", "dequantize", ("y",), "real"),
    )
    return verify(Graph("x", ("real",), {v.name: v for v in values}, nodes))


def image() -> np.ndarray:
    """An image whose values are exactly on the input's grid."""
    return X.dequantize(np.random.default_rng(1).integers(0, 256, (2, 6, 5, 2)).astype(np.uint8))


def rounding(graph: Graph) -> float:
    """Float32 roundings of one value: four when requantizing, two in the float network's weights
    and output; each at most 2**-24 of Σ|x·w| + |bias|."""
    real = dequantize_graph(graph)
    node = real.nodes[0]
    params = {role: np.abs(np.asarray(param)) for role, param in node.params.items()}
    terms = run_node(real, node.with_(attrs={**node.attrs, "act": "none"}, params=params), [np.abs(image())])
    return 6 * 2.0**-24 * float(terms.max())


@pytest.mark.parametrize("act", ["none", "relu", "relu6"])
def test_a_clamping_layer_agrees_within_half_a_step(act: str) -> None:
    graph = quantized(act)
    codes = run(graph, image())["real"]
    real = run(dequantize_graph(graph), image())["y"]
    in_range = np.clip(real, Y.low, Y.high)
    assert np.abs(codes - in_range).max() <= Y.scale / 2 + rounding(graph)


def test_a_table_layer_agrees_within_its_two_grids() -> None:
    graph = quantized("silu")
    codes = run(graph, image())["real"]
    real = run(dequantize_graph(graph), image())["y"]
    before = run(dequantize_graph(quantized("none")), image())["y"]
    inside = (before >= PRE.low) & (before <= PRE.high)
    bound = 1.1 * (PRE.scale / 2 + rounding(graph)) + Y.scale / 2  # silu's Lipschitz constant is 1.0998
    error = np.abs(codes - np.clip(real, Y.low, Y.high))[inside]
    assert inside.mean() > 0.9
    assert error.max() <= bound


def test_grids_and_tables_are_gone() -> None:
    graph = dequantize_graph(quantized("silu"))
    assert [node.op for node in graph.nodes] == ["conv2d"]
    assert graph.outputs == ("y",)
    assert all(value.q is None for value in graph.values.values())
    assert set(graph.nodes[0].params) == {"weight", "bias"}
    assert np.asarray(graph.nodes[0].params["weight"]).dtype == np.float32


def test_change_of_grid_vanishes_but_a_real_activation_stays() -> None:
    base = quantized("none")
    z = QParams(0.5, 3)
    values = {
        **base.values,
        "z": Value("z", (6, 5, 5), z),
        "t": Value("t", (6, 5, 5), z),
        "real": Value("real", (6, 5, 5)),
    }
    identity = activation_table(activation_function("none"), Y, z)
    tanh = activation_table(activation_function("tanh"), z, z)
    nodes = (
        *base.nodes[:2],
        Node("regrid", "activation", ("y",), "z", {"act": "none"}, {"table": identity}),
        Node("tanh", "activation", ("z",), "t", {"act": "tanh"}, {"table": tanh}),
        Node("dq", "dequantize", ("t",), "real"),
    )
    graph = dequantize_graph(verify(Graph("x", ("real",), values, nodes)))
    assert [(n.op, n.inputs) for n in graph.nodes] == [("conv2d", ("x",)), ("activation", ("y",))]


def test_idempotent() -> None:
    once = dequantize_graph(quantized("relu"))
    twice = dequantize_graph(once)
    assert np.array_equal(run(once, image())["y"], run(twice, image())["y"])
    assert [n.name for n in once.nodes] == [n.name for n in twice.nodes]
