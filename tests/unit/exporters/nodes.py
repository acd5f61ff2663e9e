"""Whether another runtime's codes are those of the reference, node by node, from equal inputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from subbyte.execute.reference.executor import run_node
from subbyte.exporters.grids import residual_grid
from subbyte.ir import Graph, Node, Value
from subbyte.quant import QTensor


def codes_of(value: Value, real: np.ndarray) -> np.ndarray:
    """What a runtime returns, float32, as the graph's codes where the value has a grid."""
    return real if value.q is None else value.q.quantize(real)


def bound(graph: Graph, node: Node, rounded_sums: bool) -> float:
    """How many codes apart a node's output may be.

    Two real numbers that differ by float32 roundings alone are rounded to neighbours at most: one code. A
    table behind such neighbours makes neighbours of the table. Sums that are rounded to a grid before a
    residual are half a step of it away. Where elements only move, there is nothing to round.
    """
    y = graph.value(node.output).grid
    if node.op in ("max_pool2d", "concat", "flatten"):
        return 0
    if node.op == "activation" and y.levels is not None:
        return 0  # looked up
    if "pre_scale" in node.attrs:
        table = node.params["table"]
        assert isinstance(table, np.ndarray)
        step = float(np.abs(np.diff(table.astype(np.int32))).max())
        return step if y.levels is not None else step + 1
    if len(node.inputs) == 2 and "weight" in node.params and rounded_sums:
        return 1 + residual_grid(graph, node, {}).scale / y.scale / 2
    if node.op == "mul":
        return 1 + 255 * 64 / 2**15  # the graph rounds the gate's factor, docs/spec/numerics.md
    return 1


def assert_nodes_agree(
    graph: Graph, values: Mapping[str, np.ndarray], rounded_sums: bool
) -> dict[str, float]:
    """values: codes and float32 of every value. The share of equal codes of every node that makes codes."""
    shares = {}
    for node in graph.nodes:
        expected = run_node(graph, node, [values[name] for name in node.inputs])
        actual = values[node.output]
        assert actual.shape == expected.shape, node.name
        if graph.value(node.output).q is not None:
            apart = np.abs(actual.astype(np.int32) - expected.astype(np.int32))
            assert apart.max() <= bound(graph, node, rounded_sums), (node.name, node.op, dict(node.attrs))
            shares[node.name] = float((apart == 0).mean())
        elif isinstance(node.params.get("weight"), QTensor):
            assert (np.abs(actual - expected) <= _rounding(graph, node, expected)).all()
    return shares


def _rounding(graph: Graph, node: Node, expected: np.ndarray) -> np.ndarray:
    """Of sums in float32, docs/spec/numerics.md, whose inputs, weights and bias are rounded, too."""
    x, weight, bias = graph.value(node.inputs[0]).grid, node.params["weight"], node.params["bias"]
    assert isinstance(weight, QTensor)
    assert isinstance(bias, np.ndarray)
    sums = np.abs(weight.values().astype(np.float64)).reshape(len(bias), -1).sum(axis=1)
    terms = (sums * 255 + np.abs(bias)) * x.scale * weight.scale
    roundings = weight.codes[0].size + 6
    return roundings * 2.0**-24 / (1 - roundings * 2.0**-24) * terms + np.spacing(np.abs(expected))
