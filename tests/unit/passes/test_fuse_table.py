"""Activations of codes become part of the layer in front of them: the same integers, and fewer nodes."""

from __future__ import annotations

import random

import numpy as np
import pytest

from subbyte.execute import reference
from subbyte.ir import Graph
from subbyte.passes.fuse_table import fuse_table
from subbyte.passes.pipeline import QUANTIZED, apply
from tests.contract.agreement import random_images
from tests.fuzz.builder import Builder


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def fused(graph: Graph) -> Graph:
    """Checked: the same integers at every output, the rules of the pipeline, and idempotence."""
    result = apply(graph, QUANTIZED)
    x = random_images(graph, 3, 1)
    before, after = (reference.run(one, x) for one in (graph, result))
    assert all(np.array_equal(before[name], after[name]) for name in graph.outputs)
    assert ops(fuse_table(result)) == ops(result)
    return result


@pytest.mark.parametrize("act", ["silu", "leaky_relu:0.25", "sigmoid"])
def test_tables(act: str) -> None:
    b = Builder(random.Random(1), (7, 6, 5))
    x = b.qactivation(b.qconv(b.quantize("image"), 6, (3, 3)), act)
    y = b.qactivation(b.qlinear(b.flatten(x), 4, real=False), act)
    result = fused(b.finish(y))
    assert ops(result) == ["quantize", "conv2d", "flatten", "linear"]
    assert [n.attrs["act"] for n in result.nodes if "act" in n.attrs] == [act, act]


def test_clamps_on_the_same_grid_only() -> None:
    b = Builder(random.Random(2), (7, 6, 5))
    conv = b.qconv(b.quantize("image"), 6)
    other = b.qactivation(conv, "relu")
    assert ops(fused(b.finish(other))) == ["quantize", "conv2d", "activation"]
    node = b.nodes[-1]
    grid = b.values[conv].grid
    b.values[other] = type(b.values[other])(other, b.values[other].shape, grid)
    table = np.maximum(np.arange(256), grid.zero_point).astype(np.uint8)
    b.nodes[-1] = node.with_(params={"table": table})
    assert ops(fused(b.finish(other))) == ["quantize", "conv2d"]


def test_what_stays() -> None:
    b = Builder(random.Random(3), (7, 6, 6))
    x = b.quantize("image")
    twice = b.qconv(x, 6)
    residual = b.qactivation(b.qconv(x, 6, residual=x), "silu")
    second = b.qactivation(b.qactivation(b.qconv(x, 6), "silu"), "tanh")
    narrow = b.qactivation(b.qconv(x, 6, out_bits=4), "silu")
    graph = b.finish(b.qactivation(twice, "silu"), twice, residual, second, narrow)
    assert ops(fused(graph)).count("activation") == 4
