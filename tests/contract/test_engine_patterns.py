"""Layers with sparse weights equal the reference's, on every instruction set, in memory and from a file."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from subbyte.artifact import load, save
from subbyte.execute import EXECUTORS, reference
from subbyte.execute.native import Session
from subbyte.ir import Graph
from subbyte.quant import QTensor
from tests.contract.agreement import assert_engine_equals, random_images
from tests.fuzz.builder import Builder
from tests.fuzz.graphs import wrap

PATTERNS = ("2:4", "1:4", "3:5", "32:64", "4x16:100", "4x16:50", "4x16:1", "4x32:38", "3x5:25", "1x1:50")
#: Inputs, outputs, kernel, stride: channels that groups and blocks divide, and others.
SHAPES = (
    (32, 32, (1, 1), 1),
    (17, 33, (1, 1), 1),
    (3, 15, (3, 3), 2),
    (34, 50, (3, 3), 1),
    (130, 70, (1, 1), 1),
)


def layers(pattern: str, bits: int) -> Graph:
    """A convolution of every shape, one with groups, and a linear layer."""
    b = Builder(random.Random(f"{pattern} {bits}"), (7, 7, 5))
    x, outputs = b.quantize("image"), []
    for channels, features, kernel, stride in SHAPES:
        wide = b.qconv(x, channels, act="relu6")
        outputs.append(b.qconv(wide, features, kernel, stride, act="silu", bits=bits, pattern=pattern))
    grouped = b.qconv(x, 12, act="relu6")
    outputs.append(b.qconv(grouped, 36, (3, 3), groups=3, bits=bits, pattern=pattern))
    vector = b.flatten(b.add("global_avg_pool", [outputs[1]], b.grid()))
    return b.finish(b.qlinear(vector, 19, bits, pattern=pattern), *outputs)


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern(pattern: str, bits: int, tmp_path: Path) -> None:
    graph = layers(pattern, bits)
    x = random_images(graph, 2, bits)
    assert_engine_equals(graph, x)
    save(tmp_path / "a.subbyte", wrap(graph))
    again, expected = load(tmp_path / "a.subbyte").graph, reference.run(graph, x)
    for executor in EXECUTORS.values():
        found = executor.prepare(again).run(x)
        assert all(np.array_equal(found[name], array) for name, array in expected.items()), executor.name


@pytest.mark.parametrize("kept", ["nothing", "first block", "last row"])
def test_layers_that_are_almost_empty(kept: str) -> None:
    b = Builder(random.Random(kept), (6, 5, 18))
    y = b.qconv(b.quantize("image"), 35, (3, 3), act="silu", bits=4, pattern="4x16:50")
    graph = b.finish(y)
    node = graph.nodes[-1]
    weight = node.params["weight"]
    assert isinstance(weight, QTensor)
    codes = np.zeros_like(weight.codes)
    if kept == "first block":
        codes[:16, 0, 0, :4] = 7
    if kept == "last row":
        codes[32:] = 9
    params = {**node.params, "weight": replace(weight, codes=codes)}
    graph = replace(graph, nodes=(*graph.nodes[:-1], node.with_(params=params)))
    assert_engine_equals(graph, random_images(graph, 2, 1))


@pytest.mark.parametrize(("bits", "executed"), [(8, "int8"), (4, "int4"), (3, "int4"), (2, "int2")])
def test_the_plan_says_what_was_asked_for_and_what_runs(bits: int, executed: str) -> None:
    b = Builder(random.Random(3), (4, 4, 16))
    graph = b.finish(b.qconv(b.quantize("image"), 32, bits=bits, pattern="4x16:50"))
    row = next(row for row in Session(graph).plan() if row["requested_weights"])
    assert row["requested_weights"] == f"int{bits}+4x16:50"
    assert row["executed_weights"].startswith(executed)
