from __future__ import annotations

import pytest

from subbyte.ir import Graph
from subbyte.passes import fuse_activation
from tests.unit.passes.drafts import CheckPass, Draft, Equal, RandomGraph


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


@pytest.mark.parametrize("act", ["relu", "relu6", "silu", "sigmoid"])
def test_fuses_into_convolution_and_linear(draft: type[Draft], check_pass: CheckPass, act: str) -> None:
    d = draft()
    flat = d.emit("flatten", [d.activation(d.conv("x"), act)])
    d.activation(d.linear(flat), act)
    graph = d.graph()
    result = check_pass(fuse_activation, graph)
    assert [(n.name, n.op, n.attrs.get("act")) for n in result.nodes] == [
        ("node_v0", "conv2d", act),
        ("node_v2", "flatten", None),
        ("node_v3", "linear", act),
    ]


def test_a_second_activation_stays(draft: type[Draft], check_pass: CheckPass) -> None:
    d = draft()
    d.activation(d.activation(d.conv("x"), "silu"), "relu")
    assert ops(check_pass(fuse_activation, d.graph())) == ["conv2d", "activation"]


def test_not_when_something_else_reads_the_convolution(
    draft: type[Draft], check_pass: CheckPass, equal: Equal
) -> None:
    d = draft()
    conv = d.conv("x")
    d.add(d.activation(conv), conv)
    assert equal(check_pass(fuse_activation, d.graph()), d.graph())


def test_not_when_two_activations_read_it(draft: type[Draft], check_pass: CheckPass, equal: Equal) -> None:
    d = draft()
    conv = d.conv("x")
    d.add(d.activation(conv, "relu"), d.activation(conv, "silu"))
    assert equal(check_pass(fuse_activation, d.graph()), d.graph())


def test_not_when_the_convolution_is_an_output(
    draft: type[Draft], check_pass: CheckPass, equal: Equal
) -> None:
    d = draft()
    conv = d.conv("x")
    graph = d.graph(d.activation(conv), conv)
    assert equal(check_pass(fuse_activation, graph), graph)


def test_not_behind_a_residual(draft: type[Draft], check_pass: CheckPass, equal: Equal) -> None:
    d = draft()
    d.activation(d.conv("x", residual="x"))
    assert equal(check_pass(fuse_activation, d.graph()), d.graph())


def test_not_on_other_operations(draft: type[Draft], check_pass: CheckPass, equal: Equal) -> None:
    d = draft()
    d.activation(d.add("x", d.activation("x", "silu")))
    assert equal(check_pass(fuse_activation, d.graph()), d.graph())


@pytest.mark.parametrize("seed", range(10))
def test_random_graphs(random_graph: RandomGraph, check_pass: CheckPass, seed: int) -> None:
    check_pass(fuse_activation, random_graph(seed), seed)
