"""The reference's integer operations against exact loops written from the numerics page."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.execute.reference import run
from subbyte.execute.reference.executor import run_node
from subbyte.ir import Graph, Node, Value
from subbyte.quant import QParams
from tests.fuzz.builder import Builder
from tests.unit.execute.reference import loops

seeds = st.integers(0, 2**32 - 1)
scales = st.floats(width=32, min_value=2.0**-6, max_value=2.0**4)
grids = st.sampled_from([2, 3, 4, 8]).flatmap(
    lambda bits: st.builds(QParams, scales, st.integers(0, (1 << bits) - 1), st.just(bits))
)


def codes(seed: int, shape: tuple[int, ...], q: QParams) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, q.qmax + 1, shape).astype(np.uint8)


def single(op: str, inputs: list[Value], output: Value, **attrs: Any) -> tuple[Graph, Node]:
    node = Node("node", op, tuple(v.name for v in inputs), output.name, attrs)
    return Graph(inputs[0].name, (output.name,), {v.name: v for v in (*inputs, output)}, (node,)), node


def check_layer(builder: Builder, seed: int) -> None:
    """The last node of the builder's graph, on random codes, is what the loops say."""
    graph = builder.finish(builder.nodes[-1].output)
    node = graph.nodes[-1]
    inputs, output = [graph.value(name) for name in node.inputs], graph.value(node.output)
    arrays = [codes(seed + i, v.shape, v.q) for i, v in enumerate(inputs) if v.q is not None]
    result = run_node(graph, node, [array[None] for array in arrays])[0]
    assert result.dtype == (np.float32 if output.q is None else np.uint8)
    expected = loops.layer(node, arrays, inputs, output)
    assert result.shape == expected.shape
    for index in np.ndindex(expected.shape):
        assert Fraction(result[index].item()) == expected[index]


CONVS: list[dict[str, Any]] = [
    {"channels": 5},
    {"channels": 4, "kernel": (3, 3), "stride": 2, "act": "relu"},
    {"channels": 4, "kernel": (2, 3), "act": "relu6", "bits": 4, "out_bits": 4},
    {"channels": 4, "kernel": (3, 3), "groups": 4, "act": "silu", "bits": 2, "codebook": True},
    {"channels": 6, "kernel": (1, 3), "groups": 2, "act": "gelu", "bits": 4, "codebook": True},
    {"channels": 8, "kernel": (3, 1), "groups": 4, "bits": 8, "codebook": True, "out_bits": 3},
    {"channels": 3, "kernel": (3, 3), "out_bits": None},
    {"channels": 8, "groups": 4, "kernel": (3, 3), "stride": 2, "act": "tanh", "out_bits": 2},
]


@pytest.mark.parametrize("options", CONVS, ids=str)
@settings(max_examples=5)
@given(seed=seeds)
def test_conv2d(options: dict[str, Any], seed: int) -> None:
    b = Builder(random.Random(seed), (4, 5, 4))
    b.qconv(b.quantize("image", random.Random(seed).choice([4, 8])), **options)
    check_layer(b, seed)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@settings(max_examples=5)
@given(seed=seeds)
def test_conv2d_with_residual(bits: int, seed: int) -> None:
    b = Builder(random.Random(seed), (3, 4, 4))
    x = b.quantize("image")
    b.qconv(b.qconv(x, 6, bits=bits), 4, (3, 3), bits=bits, residual=x)
    check_layer(b, seed)


@pytest.mark.parametrize("act", ["none", "relu6", "silu"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@settings(max_examples=5)
@given(seed=seeds)
def test_linear(bits: int, act: str, seed: int) -> None:
    b = Builder(random.Random(seed), (2, 1, 7))
    b.qlinear(b.flatten(b.quantize("image")), 5, bits, act, real=False)
    check_layer(b, seed)


@settings(max_examples=10)
@given(seed=seeds)
def test_logits(seed: int) -> None:
    b = Builder(random.Random(seed), (2, 1, 7))
    b.qlinear(b.flatten(b.quantize("image")), 5)
    check_layer(b, seed)


@given(grids, grids, grids, seeds)
def test_add(qa: QParams, qb: QParams, y: QParams, seed: int) -> None:
    shape = (2, 2, 3)
    graph, node = single("add", [Value("a", shape, qa), Value("b", shape, qb)], Value("y", shape, y))
    a, b = codes(seed, shape, qa), codes(seed + 1, shape, qb)
    result = run_node(graph, node, [a[None], b[None]])[0]
    for index in np.ndindex(shape):
        assert result[index] == loops.add(a[index].item(), b[index].item(), qa, qb, y)


@given(grids, grids, grids, seeds)
def test_mul(qx: QParams, qg: QParams, y: QParams, seed: int) -> None:
    x, gate = Value("x", (2, 2, 3), qx), Value("g", (1, 1, 3), qg)
    graph, node = single("mul", [x, gate], Value("y", (2, 2, 3), y))
    a, g = codes(seed, x.shape, qx), codes(seed + 1, gate.shape, qg)
    result = run_node(graph, node, [a[None], g[None]])[0]
    for index in np.ndindex(x.shape):
        assert result[index] == loops.mul(a[index].item(), g[0, 0, index[2]].item(), qx, qg, y)


@given(grids, grids, st.integers(1, 4), st.integers(1, 4), seeds)
def test_global_avg_pool(qx: QParams, y: QParams, height: int, width: int, seed: int) -> None:
    x = Value("x", (height, width, 2), qx)
    graph, node = single("global_avg_pool", [x], Value("y", (1, 1, 2), y))
    a = codes(seed, x.shape, qx)
    result = run_node(graph, node, [a[None]])[0]
    for channel in range(2):
        assert result[0, 0, channel] == loops.pool(a[:, :, channel].reshape(-1).tolist(), qx, y)


@pytest.mark.parametrize("coded", [True, False])
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    seed=seeds,
)
def test_max_pool2d(coded: bool, kernel: tuple[int, int], stride: tuple[int, int], seed: int) -> None:
    rng = random.Random(seed)
    pad = [
        rng.randrange(kernel[0]),
        rng.randrange(kernel[0]),
        rng.randrange(kernel[1]),
        rng.randrange(kernel[1]),
    ]
    q = QParams(0.5, 9) if coded else None
    x = np.random.default_rng(seed).integers(-9, 10, (4, 5, 2)).astype(np.float32)
    a = x if q is None else q.quantize(x)
    height = (4 + pad[0] + pad[1] - kernel[0]) // stride[0] + 1
    width = (5 + pad[2] + pad[3] - kernel[1]) // stride[1] + 1
    output = Value("y", (height, width, 2), q)
    graph, node = single(
        "max_pool2d", [Value("x", x.shape, q)], output, kernel=kernel, stride=stride, pad=pad
    )
    result = run_node(graph, node, [a[None]])[0]
    assert result.dtype == a.dtype
    assert result.shape == output.shape
    for index in np.ndindex(result.shape):
        assert result[index] == loops.largest(a, kernel, stride, pad, index)


@given(grids, seeds)
def test_activation_reads_its_table(q: QParams, seed: int) -> None:
    table = np.random.default_rng(seed).integers(0, 256, 256).astype(np.uint8)
    x, y = Value("x", (2, 2, 3), q), Value("y", (2, 2, 3), QParams(1.0, 0))
    a = codes(seed, x.shape, q)
    node = Node("node", "activation", ("x",), "y", {"act": "silu"}, {"table": table})
    result = run_node(Graph("x", ("y",), {"x": x, "y": y}, (node,)), node, [a[None]])[0]
    assert [result[i] for i in np.ndindex(x.shape)] == [table[a[i]] for i in np.ndindex(x.shape)]


def test_concat_and_flatten_keep_codes_in_order() -> None:
    q = QParams(1.0, 0)
    a, b = np.arange(4, dtype=np.uint8).reshape(1, 2, 2), np.arange(4, 8, dtype=np.uint8).reshape(1, 2, 2)
    graph, node = single("concat", [Value("a", a.shape, q), Value("b", b.shape, q)], Value("y", (1, 2, 4), q))
    joined = run_node(graph, node, [a[None], b[None]])
    assert joined[0].tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7]]]
    graph, node = single("flatten", [Value("a", (1, 2, 4), q)], Value("y", (8,), q))
    assert run_node(graph, node, [joined])[0].tolist() == [0, 1, 4, 5, 2, 3, 6, 7]


def test_a_network_is_its_nodes_in_turn_and_batches_are_independent() -> None:
    b = Builder(random.Random(3), (5, 6, 3))
    x = b.qconv(b.quantize("image"), 8, (3, 3), act="silu")
    y = b.squeeze_excite(x, 2)
    graph = b.finish(b.qconv(y, 8, residual=x), x)
    images = np.random.default_rng(0).normal(size=(3, 5, 6, 3)).astype(np.float32)
    kept = run(graph, images, keep=True)
    assert set(kept) == set(graph.values)
    assert list(run(graph, images)) == list(graph.outputs)
    for number, image in enumerate(images):
        alone = run(graph, image[None], keep=True)
        for name in graph.values:
            assert np.array_equal(alone[name][0], kept[name][number])
    for node in graph.nodes:
        again = run_node(graph, node, [kept[name] for name in node.inputs])
        assert np.array_equal(again, kept[node.output])
