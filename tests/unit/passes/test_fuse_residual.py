from __future__ import annotations

import pytest

from subbyte.ir import Graph
from subbyte.passes import fuse_residual
from tests.unit.passes.drafts import CheckPass, Draft, Equal, RandomGraph


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


@pytest.mark.parametrize("swap", [False, True])
def test_fuses_into_the_convolution(draft: type[Draft], check_pass: CheckPass, swap: bool) -> None:
    d = draft()
    operands = [d.conv("x"), "x"]
    total = d.add(*(reversed(operands) if swap else operands))
    (node,) = check_pass(fuse_residual, d.graph()).nodes
    assert (node.name, node.inputs, node.output) == ("node_v0", ("x", "x"), total)


@pytest.mark.parametrize("swap", [False, True])
def test_the_later_of_two_convolutions_takes_the_residual(
    draft: type[Draft], check_pass: CheckPass, swap: bool
) -> None:
    d = draft()
    operands = [d.conv("x"), d.conv("x")]
    d.add(*(reversed(operands) if swap else operands))
    result = check_pass(fuse_residual, d.graph())
    assert [(n.name, n.inputs) for n in result.nodes] == [("node_v0", ("x",)), ("node_v1", ("x", "v0"))]


def test_the_fused_convolution_comes_after_a_residual_that_is_made_later(
    draft: type[Draft], check_pass: CheckPass
) -> None:
    d = draft()
    early = d.conv("x")
    late = d.activation(d.conv("x"), "silu")
    d.add(early, late)
    result = check_pass(fuse_residual, d.graph())
    assert [n.name for n in result.nodes] == ["node_v1", "node_v2", "node_v0"]


def test_chains_of_sums(draft: type[Draft], check_pass: CheckPass) -> None:
    d = draft()
    d.add(d.add(d.conv("x"), "x"), d.conv("x"))
    result = check_pass(fuse_residual, d.graph())
    assert [(n.name, n.inputs) for n in result.nodes] == [("node_v0", ("x", "x")), ("node_v2", ("x", "v1"))]


def test_a_convolution_takes_one_residual_only(draft: type[Draft], check_pass: CheckPass) -> None:
    d = draft()
    d.add(d.add(d.conv("x"), "x"), "x")
    assert ops(check_pass(fuse_residual, d.graph())) == ["conv2d", "add"]


def test_not_into_a_convolution_with_activation(
    draft: type[Draft], check_pass: CheckPass, equal: Equal
) -> None:
    d = draft()
    d.add(d.conv("x", act="silu"), "x")
    assert equal(check_pass(fuse_residual, d.graph()), d.graph())


def test_not_when_the_convolution_is_added_to_itself(
    draft: type[Draft], check_pass: CheckPass, equal: Equal
) -> None:
    d = draft()
    conv = d.conv("x")
    d.add(conv, conv)
    assert equal(check_pass(fuse_residual, d.graph()), d.graph())


def test_not_when_something_else_reads_the_convolution(
    draft: type[Draft], check_pass: CheckPass, equal: Equal
) -> None:
    d = draft()
    conv = d.conv("x")
    d.add(d.add(conv, "x"), d.activation(conv))
    assert equal(check_pass(fuse_residual, d.graph()), d.graph())


def test_not_when_the_convolution_is_an_output(
    draft: type[Draft], check_pass: CheckPass, equal: Equal
) -> None:
    d = draft()
    conv = d.conv("x")
    graph = d.graph(d.add(conv, "x"), conv)
    assert equal(check_pass(fuse_residual, graph), graph)


def test_not_into_linear(draft: type[Draft], check_pass: CheckPass, equal: Equal) -> None:
    d = draft()
    flat = d.emit("flatten", ["x"])
    d.add(d.linear(flat), d.linear(flat))
    assert equal(check_pass(fuse_residual, d.graph()), d.graph())


@pytest.mark.parametrize("seed", range(10))
def test_random_graphs(random_graph: RandomGraph, check_pass: CheckPass, seed: int) -> None:
    check_pass(fuse_residual, random_graph(seed), seed)
