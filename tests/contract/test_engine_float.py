"""The engine's float32 layers are within docs/spec/numerics.md's bound of the reference."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from subbyte.execute.native import Session, available_isas
from subbyte.execute.reference import run
from subbyte.execute.reference.bounds import float_error_bound, run_with_bounds
from subbyte.ir import ACTIVATIONS, Graph
from subbyte.passes import optimize
from tests.contract.agreement import engine_outputs, random_images
from tests.fuzz import graphs
from tests.fuzz.builder import PARAMETRIC, Builder

#: Input (H, W, C), output channels, kernel, groups, stride.
LAYERS = (
    ((1, 1, 1), 1, 1, 1, 1),
    ((5, 4, 3), 17, 3, 1, 2),
    ((7, 6, 33), 31, 1, 1, 1),
    ((4, 9, 20), 65, 3, 1, 1),
    ((6, 6, 12), 8, 5, 4, 1),
    ((5, 7, 31), 31, 3, 31, 1),
    ((8, 5, 130), 130, 5, 130, 2),
    ((3, 3, 4), 8, 3, 4, 1),
    ((14, 9, 3), 40, 7, 1, 2),
    ((13, 11, 24), 40, 1, 1, 1),
)
#: Input and output channels of layers that are filtered: odd sides, partial panels, several blocks.
FILTERED = (
    ((8, 6, 16), 16),
    ((7, 7, 37), 33),
    ((5, 9, 50), 130),
    ((33, 30, 64), 32),
)


def assert_within_bounds(graph: Graph, x: np.ndarray, threads: tuple[int, ...] = (1, 3)) -> None:
    """Every value of a float32 graph, all of them outputs, is within its accumulated bound."""
    everything = replace(graph, outputs=tuple(node.output for node in graph.nodes))
    expected = run_with_bounds(everything, x)
    for isa in available_isas():
        for count in threads:
            session = Session(everything, isa=isa, threads=count)
            assert {row["isa"] for row in session.plan()} == {isa}
            for name, actual in zip(everything.outputs, engine_outputs(session, x), strict=True):
                value, bound = expected[name]
                assert actual.shape == value.shape
                wrong = ~(np.abs(actual.astype(np.float64) - value) <= bound)
                assert not wrong.any(), f"{isa}, {count} threads, {name}: {wrong.sum()} of {wrong.size}"


@pytest.mark.parametrize("case", range(len(LAYERS)))
@pytest.mark.parametrize("half", [False, True])
def test_convolutions(case: int, half: bool) -> None:
    shape, channels, kernel, groups, stride = LAYERS[case]
    act = ACTIVATIONS[(2 * case + half) % len(ACTIVATIONS)]
    b = Builder(random.Random(case), shape)
    x = b.fconv("image", channels, kernel, groups, half, stride, act)
    graph = b.finish(b.fconv(x, channels, kernel, channels, half, 1, act, residual=x))
    assert_within_bounds(graph, random_images(graph, 2, case))


@pytest.mark.parametrize("case", range(len(FILTERED)))
@pytest.mark.parametrize("act", ["none", "relu", "silu", "hard_swish"])
def test_filtered_convolutions(case: int, act: str) -> None:
    """On every instruction set; the second with a residual."""
    shape, channels = FILTERED[case]
    b = Builder(random.Random(case), shape)
    x = b.fconv("image", channels, 3, 1, act=act)
    graph = b.finish(b.fconv(x, channels, 3, 1, act=act, residual=x))
    assert_within_bounds(graph, random_images(graph, 1, case))
    for isa in available_isas():
        rows = Session(graph, isa=isa).plan()
        assert [row["executed_weights"] for row in rows] == ["fp32 (Winograd)"] * 2


@pytest.mark.parametrize("act", [*ACTIVATIONS, *PARAMETRIC])
@pytest.mark.parametrize("spread", [1.0, 40.0])
def test_activations(act: str, spread: float) -> None:
    """Standing alone, after a dense and after a depthwise convolution; far into saturation as well."""
    b = Builder(random.Random(1), (5, 4, 37))
    x = b.add("activation", ["image"], None, {"act": act})
    outputs = [x, b.fconv("image", 35, 1, act=act), b.fconv("image", 37, 3, 37, act=act)]
    graph = b.finish(*outputs)
    assert_within_bounds(graph, random_images(graph, 2, 1, spread))


def test_linear_add_mul_pool_concat_flatten() -> None:
    b = Builder(random.Random(2), (5, 7, 19))
    x = b.fconv("image", 19, 3, act="silu")
    pooled = b.add("global_avg_pool", [x])
    gated = b.add("mul", [x, b.fconv(pooled, 19, act="sigmoid")])
    joined = b.concat(b.add("add", [gated, x]), "image", b.max_pool(x, 3, 1))
    graph = b.finish(b.flinear(b.flatten(b.max_pool(joined, 2, 2)), 33))
    assert_within_bounds(graph, random_images(graph, 2, 2))


def test_every_float_operation_at_once() -> None:
    graph = optimize(graphs.real(random.Random(4)))
    assert_within_bounds(graph, random_images(graph, 3, 4))


def test_float_layers_between_quantized_ones() -> None:
    """Codes before the float layers are equal; those after it are equal, given the engine's float values."""
    b = Builder(random.Random(5), (6, 5, 9))
    codes = b.qconv(b.quantize("image"), 14, (3, 3), act="silu", bits=4)
    real = b.add("dequantize", [codes])
    convolved = b.fconv(real, 14, 3, act="silu", half=True)
    node = b.nodes[-1]
    graph = b.finish(codes, real, convolved, b.qconv(b.quantize(convolved), 8, (3, 3)))
    tail = b.nodes[-2:]
    x = random_images(graph, 2, 5)
    expected = run(graph, x, keep=True)
    bound = float_error_bound(graph, node, [expected[real]])
    for isa in available_isas():
        session = Session(graph, isa=isa, threads=2)
        assert [row["requested_weights"] for row in session.plan() if row["op"] == "conv2d"] == [
            *("int4", "fp16", "int8")
        ]
        first, second, third, last = engine_outputs(session, x)
        assert np.array_equal(first, expected[real])
        assert np.array_equal(second, expected[real])
        assert (np.abs(third.astype(np.float64) - expected[convolved]) <= bound).all()
        after = replace(
            graph,
            input=convolved,
            outputs=graph.outputs[3:],
            nodes=tuple(tail),
            values={name: graph.value(name) for name in (convolved, *(n.output for n in tail))},
        )
        q = graph.value(after.outputs[0]).q
        assert q is not None
        assert np.array_equal(last, q.dequantize(run(after, third)[after.outputs[0]]))
