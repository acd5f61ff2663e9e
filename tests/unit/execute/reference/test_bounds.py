"""The float32 bounds hold for an executor that really works in float32, and are not far above it."""

import numpy as np
import pytest

from subbyte.errors import GraphError
from subbyte.execute.reference.bounds import float_error_bound, run_with_bounds
from subbyte.execute.reference.executor import run_node
from subbyte.ir import Graph, Node, Value
from subbyte.quant import QParams

f32 = np.float32


def linear(size: int, seed: int, act: str = "none") -> tuple[Graph, Node, np.ndarray]:
    rng = np.random.default_rng(seed)
    weight, bias = rng.standard_normal((8, size)).astype(f32), rng.standard_normal(8).astype(f32)
    node = Node("n", "linear", ("x",), "y", {"act": act}, {"weight": weight, "bias": bias})
    graph = Graph("x", ("y",), {"x": Value("x", (size,)), "y": Value("y", (8,))}, (node,))
    return graph, node, rng.standard_normal((4, size)).astype(f32)


def array(node: Node, role: str) -> np.ndarray:
    param = node.params[role]
    assert isinstance(param, np.ndarray)
    return param


def sequential_sum(node: Node, x: np.ndarray) -> np.ndarray:
    """Products added one after the other, every step rounded to float32."""
    total = np.zeros((len(x), 8), f32)
    for k in range(x.shape[1]):
        total = total + x[:, k, None] * array(node, "weight")[None, :, k]
    return total + array(node, "bias")


@pytest.mark.parametrize("size", [1, 7, 300])
def test_a_sequential_float32_sum_stays_within(size: int) -> None:
    graph, node, x = linear(size, seed=size)
    error = np.abs(sequential_sum(node, x).astype(np.float64) - run_node(graph, node, [x]))
    bound = float_error_bound(graph, node, [x])
    assert (error <= bound).all()
    magnitude = np.abs(x) @ np.abs(array(node, "weight")).T + np.abs(array(node, "bias"))
    assert (bound <= 1.01 * (size + 4) * 2.0**-24 * magnitude).all()  # the bound of the numerics page


def test_errors_of_inputs_pass_through_weights_and_slopes() -> None:
    graph, node, x = linear(5, seed=1, act="silu")
    off = np.full(x.shape, 1e-3)
    moved = run_node(graph, node, [(x + off).astype(f32)])
    shift = np.abs(moved.astype(np.float64) - run_node(graph, node, [x]))
    bound = float_error_bound(graph, node, [x], [1.001 * off])
    assert (shift <= bound).all()
    assert (bound <= 1.2 * 1e-3 * np.abs(array(node, "weight")).sum(axis=1) + 1e-5).all()


def test_bounds_of_a_graph_add_up() -> None:
    graph, _, x = linear(5, seed=2)
    (result, bound) = run_with_bounds(graph, x)["y"]
    np.testing.assert_array_equal(result, run_node(graph, graph.nodes[0], [x]))
    np.testing.assert_array_equal(bound, float_error_bound(graph, graph.nodes[0], [x]))


def test_quantized_values_have_no_tolerance() -> None:
    grid = QParams(0.125, 128, 8)
    node = Node("n", "quantize", ("x",), "y")
    graph = Graph("x", ("y",), {"x": Value("x", (3,)), "y": Value("y", (3,), grid)}, (node,))
    with pytest.raises(GraphError, match="must be equal, not close"):
        float_error_bound(graph, node, [np.zeros((1, 3), f32)])
