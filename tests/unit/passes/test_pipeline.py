"""The standard pipeline, dead nodes, squeeze-and-excitation, and the cost of a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from subbyte.errors import GraphError
from subbyte.ir import Graph, macs
from subbyte.passes import (
    STANDARD,
    Pass,
    Rule,
    SqueezeExcite,
    apply,
    drop_dead_nodes,
    optimize,
    squeeze_excite,
)
from subbyte.quant import QParams
from tests.unit.passes.drafts import CheckPass, Draft, RandomGraph


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


def test_dead_nodes_are_dropped(draft: type[Draft], check_pass: CheckPass) -> None:
    d = draft()
    kept = d.conv("x")
    d.activation(d.conv(kept))
    result = check_pass(drop_dead_nodes, d.graph(kept))
    assert [n.name for n in result.nodes] == ["node_v0"]
    assert set(result.values) == {"x", kept}


def test_an_inverted_residual_block(draft: type[Draft], check_pass: CheckPass) -> None:
    d = draft()
    y = d.activation(d.batch_norm(d.conv("x", 6)), "silu")
    y = d.activation(d.batch_norm(d.conv(y, kernel=3, depthwise=True)), "silu")
    y = d.squeeze_excite(y, "silu")
    total = d.add(d.batch_norm(d.conv(y, 3)), "x")
    result = check_pass(optimize, d.graph())
    assert ops(result) == ["conv2d", "conv2d", "global_avg_pool", "conv2d", "conv2d", "mul", "conv2d"]
    assert [n.attrs.get("act") for n in result.nodes] == [
        "silu",
        "silu",
        None,
        "silu",
        "sigmoid",
        None,
        "none",
    ]
    assert result.nodes[-1].inputs[1] == "x"
    assert result.nodes[-1].output == total


def test_a_residual_behind_silu_stays_an_add(draft: type[Draft], check_pass: CheckPass) -> None:
    d = draft()
    d.add(d.activation(d.batch_norm(d.conv("x")), "silu"), "x")
    assert ops(check_pass(optimize, d.graph())) == ["conv2d", "add"]


@pytest.mark.parametrize("seed", range(30))
def test_random_graphs(random_graph: RandomGraph, check_pass: CheckPass, seed: int) -> None:
    result = check_pass(optimize, random_graph(seed), seed)
    assert "batch_norm" not in ops(result)


def unoptimized(draft: type[Draft]) -> Graph:
    """A graph that breaks every rule of the standard pipeline but that its values are float32."""
    d = draft()
    total = d.add(d.batch_norm(d.conv("x")), d.conv("x"))
    d.activation(d.conv(total))  # dead, and not fused
    return d.graph(total)


@pytest.mark.parametrize("step", STANDARD, ids=lambda p: p.name)
def test_what_a_pass_ensures_it_brings_about(draft: type[Draft], step: Pass) -> None:
    """Each rule is broken where the pass did not run, and the runner sees that."""
    before = [earlier for earlier in STANDARD[: STANDARD.index(step)] if step.name == "fuse_residual"]
    graph = apply(unoptimized(draft), before)
    assert step.ensures
    assert not any(rule.holds(graph) for rule in step.ensures)
    assert all(rule.holds(apply(graph, [step])) for rule in step.ensures)

    def forgets(graph: Graph) -> Graph:
        return graph

    for rule in step.ensures:
        with pytest.raises(
            GraphError, match=f"pass forgets is to ensure that {rule.text}, but that is not so"
        ):
            apply(graph, [replace(step, run=forgets)])


def test_what_a_pass_requires_is_asked_before_it_runs(draft: type[Draft]) -> None:
    def never(graph: Graph) -> Graph:
        raise AssertionError

    rule = Rule("it has two outputs", lambda graph: len(graph.outputs) == 2)
    with pytest.raises(GraphError, match="pass never requires that it has two outputs, but that is not so"):
        apply(unoptimized(draft), [Pass(never, requires=(rule,))])


def test_passes_in_another_order_are_refused(draft: type[Draft]) -> None:
    """A residual fused first would hide an activation behind it."""
    message = "pass fuse_residual requires that no activation is the only consumer of a plain conv2d"
    with pytest.raises(GraphError, match=message):
        apply(unoptimized(draft), reversed(STANDARD))


def test_the_pass_that_breaks_a_graph_is_named(draft: type[Draft]) -> None:
    def loses_outputs(graph: Graph) -> Graph:
        return replace(graph, outputs=())

    d = draft()
    d.conv("x")
    with pytest.raises(GraphError, match="after pass loses_outputs: a graph needs at least one output"):
        apply(d.graph(), [Pass(loses_outputs)])


def test_quantized_graphs_are_refused(draft: type[Draft]) -> None:
    d = draft()
    d.emit("quantize", ["x"])
    d.values["v0"] = replace(d.values["v0"], q=QParams(0.125, 128, 8))
    with pytest.raises(GraphError, match="optimize needs a float32 graph, but value 'v0' is quantized"):
        optimize(d.graph())


@pytest.mark.parametrize("fused", [False, True])
def test_squeeze_excite_is_found_by_data_flow(draft: type[Draft], fused: bool) -> None:
    d = draft()
    y = d.conv("x", 4)
    d.conv(d.squeeze_excite(y), 3)
    graph = optimize(d.graph()) if fused else d.graph()
    assert squeeze_excite(graph) == [SqueezeExcite("node_v1", "node_v2", "node_v4", "node_v6", y)]


def test_squeeze_excite_through_grid_changes(draft: type[Draft]) -> None:
    d = draft()
    pooled = d.emit("dequantize", [d.emit("quantize", [d.emit("global_avg_pool", ["x"])])])
    d.emit("mul", ["x", d.conv(d.conv(pooled, 2, act="relu"), 3, act="sigmoid")])
    grid = QParams(0.125, 128, 8)
    d.values["v1"] = replace(d.values["v1"], q=grid)
    assert squeeze_excite(d.graph()) == [SqueezeExcite("node_v0", "node_v3", "node_v4", "node_v5", "x")]


def _other_map(d: Draft) -> str:
    pooled = d.emit("global_avg_pool", [d.activation("x")])
    return d.emit("mul", ["x", d.conv(d.conv(pooled))])


def _one_convolution(d: Draft) -> str:
    return d.emit("mul", ["x", d.conv(d.emit("global_avg_pool", ["x"]))])


def _read_twice(d: Draft) -> str:
    pooled = d.emit("global_avg_pool", ["x"])
    return d.emit("mul", ["x", d.add(d.conv(d.conv(pooled)), pooled)])


def _shared_gate(d: Draft) -> str:
    gate = d.conv(d.conv(d.emit("global_avg_pool", ["x"])))
    return d.add(d.emit("mul", ["x", gate]), d.emit("mul", ["x", gate]))


@pytest.mark.parametrize("build", [_other_map, _one_convolution, _read_twice, _shared_gate])
def test_other_gates_are_no_squeeze_excite(draft: type[Draft], build: Callable[[Draft], str]) -> None:
    d = draft()
    build(d)
    assert squeeze_excite(d.graph()) == []


def test_macs(draft: type[Draft]) -> None:
    d = draft((5, 4, 3))
    y = d.activation(d.conv(d.conv("x", 6, kernel=3), kernel=3, depthwise=True))
    d.linear(d.emit("flatten", [d.emit("global_avg_pool", [y])]), 7)
    assert macs(d.graph()) == {"node_v0": 5 * 4 * 6 * 27, "node_v1": 5 * 4 * 6 * 9, "node_v5": 7 * 6}
