from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from subbyte.errors import GraphError
from subbyte.ir import Graph
from subbyte.passes import fold_batch_norm, optimize
from tests.unit.passes.drafts import CheckPass, Draft, RandomGraph


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("depthwise", [False, True])
def test_folds_into_the_convolution_before(
    draft: type[Draft], check_pass: CheckPass, kernel: int, depthwise: bool
) -> None:
    d = draft()
    conv = d.conv("x", 4, kernel, depthwise=depthwise)
    norm = d.batch_norm(conv)
    graph = d.graph(norm)
    (node,) = check_pass(fold_batch_norm, graph).nodes
    assert (node.name, node.op, node.output) == (graph.nodes[0].name, "conv2d", norm)


def test_the_check_notices_a_wrong_fold(draft: type[Draft], check_pass: CheckPass) -> None:
    def without_mean(graph: Graph) -> Graph:
        params = {**graph.nodes[1].params, "mean": np.zeros(3, np.float32)}
        return fold_batch_norm(replace(graph, nodes=(graph.nodes[0], graph.nodes[1].with_(params=params))))

    d = draft()
    d.batch_norm(d.conv("x"))
    with pytest.raises(AssertionError, match="node_v0"):
        check_pass(without_mean, d.graph())


def test_weights_are_the_float64_product_rounded_once(draft: type[Draft]) -> None:
    d = draft()
    d.batch_norm(d.conv("x", 4, 3))
    conv, norm = d.nodes
    (folded,) = fold_batch_norm(d.graph()).nodes
    p = {k: np.asarray(v, np.float64) for k, v in norm.params.items()}
    scale = p["weight"] / np.sqrt(p["var"] + 1e-3)
    weight = (np.asarray(conv.params["weight"]) * scale[:, None, None, None]).astype(np.float32)
    np.testing.assert_array_equal(folded.params["weight"], weight)
    bias = np.asarray(conv.params["bias"]) * scale + (p["bias"] - p["mean"] * scale)
    np.testing.assert_array_equal(folded.params["bias"], bias.astype(np.float32))


def test_folds_into_linear_and_chains(draft: type[Draft], check_pass: CheckPass) -> None:
    d = draft()
    pooled = d.emit("flatten", [d.emit("global_avg_pool", ["x"])])
    d.batch_norm(d.batch_norm(d.linear(pooled, 5)))
    assert ops(check_pass(fold_batch_norm, d.graph())) == ["global_avg_pool", "flatten", "linear"]


def test_alone_it_becomes_a_depthwise_convolution(draft: type[Draft], check_pass: CheckPass) -> None:
    d = draft()
    d.activation(d.batch_norm("x"))
    node = check_pass(fold_batch_norm, d.graph()).nodes[0]
    assert (node.name, node.op, node.attrs["groups"]) == ("node_v0", "conv2d", 3)
    assert node.params["weight"].shape == (3, 1, 1, 1)


def test_alone_on_a_vector_it_becomes_a_diagonal_linear(draft: type[Draft], check_pass: CheckPass) -> None:
    d = draft()
    d.batch_norm(d.emit("flatten", ["x"]))
    assert ops(check_pass(fold_batch_norm, d.graph())) == ["flatten", "linear"]


def _shared(d: Draft, conv: str) -> tuple[str, ...]:
    return (d.add(d.batch_norm(conv), conv),)


def _output(d: Draft, conv: str) -> tuple[str, ...]:
    return d.batch_norm(conv), conv


@pytest.mark.parametrize("reader", [_shared, _output])
def test_not_into_a_convolution_that_something_else_reads(
    draft: type[Draft], check_pass: CheckPass, reader: Callable[[Draft, str], tuple[str, ...]]
) -> None:
    d = draft()
    outputs = reader(d, d.conv("x"))
    graph = d.graph(*outputs)
    result = check_pass(fold_batch_norm, graph)
    np.testing.assert_array_equal(result.nodes[0].params["weight"], graph.nodes[0].params["weight"])
    assert result.nodes[1].op == "conv2d"
    assert result.nodes[1].attrs["groups"] == 3


@pytest.mark.parametrize("fused", [{"act": "relu"}, {"residual": "x"}])
def test_not_over_an_activation_or_a_residual(
    draft: type[Draft], check_pass: CheckPass, fused: dict[str, str]
) -> None:
    d = draft()
    d.batch_norm(d.conv("x", act=fused.get("act", "none"), residual=fused.get("residual")))
    assert ops(check_pass(fold_batch_norm, d.graph())) == ["conv2d", "conv2d"]


@pytest.mark.parametrize("seed", range(10))
def test_random_graphs(random_graph: RandomGraph, check_pass: CheckPass, seed: int) -> None:
    assert "batch_norm" not in ops(check_pass(fold_batch_norm, random_graph(seed), seed))


def test_statistics_beyond_float32_are_an_error_not_a_warning(draft: type[Draft]) -> None:
    d = draft()
    d.batch_norm(d.conv("x"))
    for node, weight in zip(d.nodes, (1e6, 3e38), strict=True):
        np.asarray(node.params["weight"])[:] = weight
    with pytest.raises(GraphError, match=r"after pass fold_batch_norm: .* holds NaN or infinity"):
        optimize(d.graph())
