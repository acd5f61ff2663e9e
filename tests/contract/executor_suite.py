"""What every executor owes, as checks of a row of EXECUTORS; the reference defines every number.

`CASES`: name to check. tests/contract/test_executors.py runs them over the table.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from subbyte.benchmark.candidate import is_exact
from subbyte.errors import GraphError, InputError
from subbyte.execute import Executor, reference
from subbyte.execute.reference.bounds import run_with_bounds
from subbyte.ir import ACTIVATIONS, OPS, Graph, Node, Value, verify
from subbyte.passes import optimize
from subbyte.quant import QParams, QTensor
from subbyte.quant.format import INT8
from tests.contract.agreement import random_images
from tests.fuzz import graphs
from tests.fuzz.builder import PARAMETRIC, Builder

ACTS = (*ACTIVATIONS, *PARAMETRIC)
Check = Callable[[Executor], None]


def assert_equal(executor: Executor, graph: Graph, x: np.ndarray) -> dict[str, np.ndarray]:
    """Every output is the reference's, codes and reals alike: nothing computes with float32 values here."""
    assert is_exact(graph)
    expected, actual = reference.run(graph, x), executor.prepare(graph).run(x)
    assert tuple(actual) == tuple(expected) == graph.outputs
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype
        assert np.array_equal(actual[name], array), name
    return actual


def assert_within(executor: Executor, graph: Graph, x: np.ndarray) -> None:
    """Every value of a float graph is as close to the reference's as the row says."""
    everything = replace(graph, outputs=tuple(node.output for node in graph.nodes))
    expected, actual = run_with_bounds(everything, x), executor.prepare(everything).run(x)
    for name in everything.outputs:
        value, bound = expected[name]
        assert actual[name].dtype == np.float32
        assert actual[name].shape == value.shape
        allowed = bound if executor.floats == "within bounds" else 0.0
        assert (np.abs(actual[name].astype(np.float64) - value) <= allowed).all(), name


def convolutions(seed: int, executor: Executor) -> None:
    """A chain of five of every kernel, stride, padding, grouping, activation, width and code book."""
    rng = random.Random(seed)
    b = Builder(rng, (seed % 7 + 1, 5, (1, 3, 4)[seed % 3]))
    x = b.quantize("image", rng.choice([2, 4, 8]))
    for _ in range(5):
        channels = b.shape(x)[2]
        kernel = (rng.choice([1, 2, 3, 5]), rng.choice([1, 2, 3, 5]))
        top, bottom, left, right = (rng.randrange(k) for k in (kernel[0], kernel[0], kernel[1], kernel[1]))
        pad = top, bottom, left, right
        if b.shape(x)[0] + pad[0] + pad[1] < kernel[0] or b.shape(x)[1] + pad[2] + pad[3] < kernel[1]:
            kernel, pad = (1, 1), (0, 0, 0, 0)
        depthwise, bits = rng.random() < 0.4, rng.choice([2, 3, 4, 8])
        x = b.qconv(
            x,
            channels if depthwise else rng.randint(1, 40),
            kernel,
            (rng.randint(1, 2), rng.randint(1, 2)),
            channels if depthwise else 1,
            rng.choice(ACTS),
            bits,
            rng.choice([2, 3, 4, 8]),
            bits < 8 and rng.random() < 0.5,
            pad=pad,
            levels=rng.random() < 0.3,
        )
    graph = b.finish(x)
    assert_equal(executor, graph, random_images(graph, 2, seed, 3.0))


def activation(act: str, executor: Executor) -> None:
    """Behind sums and as a node of its own, on codes and on float32 numbers near zero and far from it."""
    b = Builder(random.Random(100), (4, 3, 5))
    x = b.qconv(b.quantize("image"), 7, (3, 3), act=act, bits=4)
    graph = b.finish(x, b.qactivation(x, act))
    assert_equal(executor, graph, random_images(graph, 3, 1, 4.0))
    b = Builder(random.Random(101), (7, 9, 11))
    graph = b.finish(b.add("activation", ["image"], None, {"act": act}), b.fconv("image", 5, 3, act=act))
    for spread in (1.0, 40.0):
        assert_within(executor, graph, random_images(graph, 2, 3, spread))


def whole(make: Callable[[random.Random], Graph], executor: Executor) -> None:
    """A graph with its own outputs, then with every value as one."""
    graph = make(random.Random(7))
    x = random_images(graph, 3, 7)
    assert_equal(executor, graph, x)
    assert_equal(executor, replace(graph, outputs=tuple(node.output for node in graph.nodes)), x)


def chains(block: int, executor: Executor) -> None:
    """Random graphs of every op, quantized or float."""
    for seed in range(25 * block, 25 * block + 25):
        graph = graphs.random_graph(random.Random(seed))
        if is_exact(graph):
            assert_equal(executor, graph, random_images(graph, 2, seed))
        elif all(value.q is None for value in graph.values.values()):
            graph = optimize(graph)
            assert_within(executor, graph, random_images(graph, 2, seed))


def floats(executor: Executor) -> None:
    """Every float op that the executor has, with float32 and float16 weights, and with factors of gates."""
    made = optimize(graphs.real(random.Random(5))), graphs.folded(random.Random(9))
    others = graphs.scaled(random.Random(2)), graphs.moved(random.Random(4), coded=False)
    new = graphs.computed(random.Random(6), coded=False), graphs.normalized(random.Random(8))
    for graph in (*made, *others, *new):
        assert_within(executor, graph, random_images(graph, 2, 12))


def batch_norms(executor: Executor) -> None:
    """An op that the executor lacks is refused with what its row says; any other one runs."""
    b = Builder(random.Random(3), (4, 5, 21))
    graph = b.finish(b.batch_norm("image"))
    advice = OPS["batch_norm"].lacks.get(executor.name)
    if advice is None:
        assert_within(executor, graph, random_images(graph, 2, 3))
        return
    with pytest.raises(GraphError, match=rf"^node 'batch_norm0': .* has no batch_norm; {advice}$"):
        executor.prepare(graph)


def vectors(executor: Executor) -> None:
    """[N, C] in and out."""
    b = Builder(random.Random(5), (37,))
    x = b.quantize("image")
    graph = b.finish(b.qlinear(x, 10, 4), b.qlinear(x, 5, 2, "gelu", real=False))
    outputs = assert_equal(executor, graph, random_images(graph, 3, 5))
    assert [array.shape for array in outputs.values()] == [(3, 10), (3, 5)]


def sums_beyond_float32(executor: Executor) -> None:
    """Weights of 127, inputs of 255 and biases near 2**30: partial sums and sums above 2**24."""
    rng = np.random.default_rng(7)
    weight = QTensor.from_values(rng.integers(100, 128, (6, 3, 3, 96)), np.full(6, 1e-3, np.float32), INT8)
    bias = np.array([1, -1, 2**24 + 1, -(2**29) + 1, 2**30 - 1, 12345], np.int32)
    values = {
        "image": Value("image", (5, 5, 96)),
        "x": Value("x", (5, 5, 96), QParams(0.03125, 0, 8)),
        "y": Value("y", (3, 3, 6), QParams(2.0, 128, 8)),
        "r": Value("r", (3, 3, 6)),
    }
    attrs = {"stride": [1, 1], "pad": [0, 0, 0, 0], "groups": 1, "act": "none"}
    params: dict[str, np.ndarray | QTensor] = {"weight": weight, "bias": bias}
    nodes = (
        Node("q", "quantize", ("image",), "x"),
        Node("c", "conv2d", ("x",), "y", attrs, params),
        Node("d", "conv2d", ("x",), "r", attrs, params),
    )
    graph = verify(Graph("image", ("y", "r"), values, nodes))
    images = rng.uniform(4, 9, (2, 5, 5, 96)).astype(np.float32)
    codes = reference.run(graph, images, keep=True)["x"].astype(np.int64)
    assert np.abs(codes.sum(axis=(1, 2, 3))).max() * 100 > 2**24
    assert_equal(executor, graph, images)


def batches(executor: Executor) -> None:
    """A batch's results are its images'; an empty one has none; a prepared graph runs again."""
    graph = graphs.quantized(random.Random(9), 4)
    x = random_images(graph, 11, 9)
    prepared = executor.prepare(graph)
    results, singles = prepared.run(x), [prepared.run(x[i : i + 1]) for i in range(len(x))]
    for name, array in results.items():
        assert np.array_equal(array, np.concatenate([single[name] for single in singles]))
    empty = prepared.run(x[:0])
    assert tuple(empty) == graph.outputs
    for name, array in empty.items():
        value = graph.value(name)
        assert (array.shape, array.dtype) == ((0, *value.shape), np.dtype(value.dtype))
    assert np.array_equal(prepared.run(np.asfortranarray(x))[graph.outputs[0]], results[graph.outputs[0]])


#: What is no input, and what is said about it.
BAD: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "float64": (
        lambda x: x.astype(np.float64),
        "input must be a float32 numpy array, got float64; convert it with .astype('float32')",
    ),
    "list": (
        lambda x: x.tolist(),
        "input must be a float32 numpy array, got list; convert it with .astype('float32')",
    ),
    "channels": (
        lambda x: x[..., :2],
        "input must be float32 [N, 5, 6, 3] (channels last), got [2, 5, 6, 2]",
    ),
    "order": (
        lambda x: x.transpose(0, 3, 1, 2),
        "input must be float32 [N, 5, 6, 3] (channels last), got [2, 3, 5, 6]",
    ),
    "too deep": (
        lambda x: x[None],
        "input must be float32 [N, 5, 6, 3] (channels last), got [1, 2, 5, 6, 3]",
    ),
    "one row": (lambda x: x[0, 0], "input must be float32 [N, 5, 6, 3] (channels last), got [6, 3]"),
    "nan": (lambda x: np.where(x == x.max(), np.float32("nan"), x), "input holds NaN or infinity"),
    "inf": (lambda x: np.where(x == x.max(), np.float32("inf"), x), "input holds NaN or infinity"),
    "-inf": (lambda x: np.where(x == x.max(), -np.float32("inf"), x), "input holds NaN or infinity"),
}


def bad_input(kind: str, executor: Executor) -> None:
    """One sentence, the same from every executor; the next run is right again."""
    b = Builder(random.Random(1), (5, 6, 3))
    graph = b.finish(b.qconv(b.quantize("image"), 4, (3, 3)))
    change, text = BAD[kind]
    prepared, x = executor.prepare(graph), random_images(graph, 2, 4)
    with pytest.raises(InputError) as error:
        prepared.run(change(x))
    assert str(error.value) == text
    assert np.array_equal(prepared.run(x)[graph.outputs[0]], reference.run(graph, x)[graph.outputs[0]])


def broken_graph(executor: Executor) -> None:
    graph = graphs.quantized(random.Random(1), 4)
    with pytest.raises(GraphError, match="which no earlier node makes"):
        executor.prepare(replace(graph, nodes=graph.nodes[::-1]))


def _widths() -> dict[str, Check]:
    made: dict[str, Check] = {
        f"width {bits}": partial(whole, partial(graphs.quantized, bits=bits)) for bits in (2, 3, 4, 8)
    }
    made["factors of gates"] = partial(whole, graphs.balanced)
    made["narrow activations"] = partial(whole, graphs.narrow)
    made["patterns"] = partial(whole, graphs.sparse)
    made["levels"] = partial(whole, graphs.leveled)
    made["moved"] = partial(whole, graphs.moved)
    made["computed"] = partial(whole, graphs.computed)
    made["small EfficientNet"] = partial(whole, graphs.middle)
    return made


CASES: dict[str, Check] = {
    **{f"convolutions {seed}": partial(convolutions, seed) for seed in range(24)},
    **{f"activation {act}": partial(activation, act) for act in ACTS},
    **_widths(),
    **{f"chains {block}": partial(chains, block) for block in range(4)},
    "strides": partial(whole, graphs.strided),
    "floats": floats,
    "batch norms": batch_norms,
    "vectors": vectors,
    "sums beyond float32": sums_beyond_float32,
    "batches": batches,
    **{f"bad input, {kind}": partial(bad_input, kind) for kind in BAD},
    "broken graph": broken_graph,
}
