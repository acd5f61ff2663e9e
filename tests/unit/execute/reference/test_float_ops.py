"""The reference's float32 operations against exact loops, and what `run` refuses.

The reference sums in float64 and rounds once to float32, so each result is within half an ulp of
the exact number (2**-24 relative), plus the float64 sum's own error, (K+2) * 2**-53 of the sum of
magnitudes, and the activation's float64 rounding.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.errors import InputError
from subbyte.execute.reference import run
from subbyte.ir import Graph, Node, Value
from subbyte.quant import QParams
from tests.fuzz.builder import Builder
from tests.unit.exact import fl, real
from tests.unit.execute.reference import loops

seeds = st.integers(0, 2**32 - 1)

FUNCTIONS: dict[str, Callable[[float], float]] = {
    "none": lambda x: x,
    "silu": lambda x: x / (1 + math.exp(-x)),
    "relu": lambda x: max(x, 0.0),
    "gelu": lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))),
    "tanh": math.tanh,
}


def image(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
@settings(max_examples=5)
@given(seed=seeds)
def test_conv2d(half: bool, groups: int, seed: int) -> None:
    b = Builder(random.Random(seed), (3, 4, 4))
    graph = b.finish(b.fconv("image", 4, 3, groups, half))
    x, node = image(seed, 3, 4, 4), graph.nodes[0]
    result = run(graph, x[None])[node.output][0]
    for index in np.ndindex(result.shape):
        exact = loops.accumulator(node, x, 0, index[:2], index[2])
        expected = FUNCTIONS[node.attrs["act"]](float(exact))
        assert abs(result[index] - expected) <= 2**-24 * abs(expected) + 2**-44


@settings(max_examples=10)
@given(seed=seeds)
def test_conv2d_adds_its_residual_last(seed: int) -> None:
    b = Builder(random.Random(seed), (3, 3, 2))
    b.fconv("image", 2, 3)
    node = b.nodes[0].with_(inputs=("image", "image"))
    values = b.values
    x = image(seed, 1, 3, 3, 2)
    alone = run(Graph("image", ("v0",), values, (b.nodes[0],)), x)["v0"]
    both = run(Graph("image", ("v0",), values, (node,)), x)["v0"]
    # the sum is taken in float64 of an activation that `alone` has rounded: half an ulp of each
    assert np.all(np.abs(both - (alone + x)) <= 2**-23 * (np.abs(alone) + np.abs(both)))


@settings(max_examples=10)
@given(seed=seeds)
def test_linear(seed: int) -> None:
    b = Builder(random.Random(seed), (1, 2, 4))
    graph = b.finish(b.flinear(b.flatten("image"), 3))
    x, node = image(seed, 1, 2, 4), graph.nodes[1]
    result = run(graph, x[None])[node.output][0]
    for o in range(3):
        exact = loops.accumulator(node, x.reshape(-1), 0, (0, 0), o)
        assert abs(Fraction(result[o].item()) - exact) <= abs(exact) * Fraction(2) ** -24 + Fraction(2) ** -44


@settings(max_examples=10)
@given(seed=seeds)
def test_batch_norm(seed: int) -> None:
    b = Builder(random.Random(seed), (2, 2, 3))
    graph = b.finish(b.batch_norm("image"))
    x, p = image(seed, 2, 2, 3), graph.nodes[0].params
    result = run(graph, x[None])["v0"][0]
    for index in np.ndindex(result.shape):
        c = index[2]
        scale = p["weight"][c].item() / math.sqrt(p["var"][c].item() + 1e-3)  # type: ignore[index]
        expected = (x[index].item() - p["mean"][c].item()) * scale + p["bias"][c].item()  # type: ignore[index]
        assert abs(result[index] - expected) <= 2**-24 * abs(expected) + 2**-48


@pytest.mark.parametrize("act", sorted(FUNCTIONS))
def test_activation(act: str) -> None:
    values = {"image": Value("image", (1, 1, 9)), "y": Value("y", (1, 1, 9))}
    graph = Graph("image", ("y",), values, (Node("n", "activation", ("image",), "y", {"act": act}),))
    x = np.linspace(-6, 6, 9, dtype=np.float32)
    result = run(graph, x.reshape(1, 1, 1, 9))["y"].reshape(-1)
    for value, y in zip(x.tolist(), result.tolist(), strict=True):
        expected = FUNCTIONS[act](value)
        # erf(x) + 1 and exp cancel by at most 2**-50 absolutely here
        assert abs(y - expected) <= 2**-24 * abs(expected) + 2**-50


@given(seeds)
def test_add_mul_and_pool(seed: int) -> None:
    b = Builder(random.Random(seed), (2, 3, 2))
    pooled = b.add("global_avg_pool", ["image"])
    graph = b.finish(b.add("mul", [b.add("add", ["image", "image"]), pooled]))
    x = image(seed, 2, 3, 2)
    kept = run(graph, x[None], keep=True)
    for c in range(2):
        mean = sum((real(x, i, j, c) for i in range(2) for j in range(3)), Fraction(0)) / 6
        assert (
            abs(Fraction(kept["v0"][0, 0, 0, c].item()) - mean)
            <= abs(mean) * Fraction(2) ** -24 + Fraction(2) ** -48
        )
        for i, j in np.ndindex(2, 3):
            assert Fraction(kept["v1"][0, i, j, c].item()) == fl(2 * real(x, i, j, c))
            product = real(kept["v1"], 0, i, j, c) * real(kept["v0"], 0, 0, 0, c)
            assert Fraction(kept["v2"][0, i, j, c].item()) == fl(product)


def test_quantize_and_dequantize() -> None:
    q = QParams(0.5, 3, 4)
    values = {"image": Value("image", (1, 1, 4)), "c": Value("c", (1, 1, 4), q), "y": Value("y", (1, 1, 4))}
    nodes = (Node("q", "quantize", ("image",), "c"), Node("d", "dequantize", ("c",), "y"))
    x = np.array([-9.0, -0.25, 0.75, 99.0], np.float32).reshape(1, 1, 1, 4)
    kept = run(Graph("image", ("y",), values, nodes), x, keep=True)
    assert kept["c"].reshape(-1).tolist() == [0, 3, 5, 15]  # -0.5 and 1.5 steps go to even: 0 and 2
    assert kept["y"].reshape(-1).tolist() == [-1.5, 0.0, 1.0, 6.0]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((1, 2, 3, 2)), "must be a float32 numpy array, got float64"),
        (np.zeros((1, 2, 2, 2), np.float32), r"must be float32 \[N, 2, 3, 2\]"),
        (np.zeros((2, 3, 2), np.float32), "must be float32"),
        (np.full((1, 2, 3, 2), np.nan, np.float32), "NaN or infinity"),
        (np.full((1, 2, 3, 2), np.inf, np.float32), "NaN or infinity"),
    ],
)
def test_run_refuses(x: np.ndarray, message: str) -> None:
    b = Builder(random.Random(0), (2, 3, 2))
    graph = b.finish(b.batch_norm("image"))
    with pytest.raises(InputError, match=message):
        run(graph, x)
