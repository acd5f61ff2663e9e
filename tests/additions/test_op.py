"""An operation is added by its row and by new files that execute it.

Here: `mirror`, which turns a map's columns around. A real one touches one existing file,
subbyte/ir/ops.py (its row), and adds subbyte/execute/reference/ops/mirror.py and
subbyte/execute/torch/ops/mirror.py. Who does not take it yet, the engine and the exporters, is named
in the row, and says so to users. (With the engine: native/include/subbyte/ops.inc and
subbyte/execute/native/ops/mirror.py, and its step in C++.)
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from subbyte import Session, load, save
from subbyte.compress import compress
from subbyte.errors import GraphError, InputError
from subbyte.execute import EXECUTORS, reference
from subbyte.execute.reference.ops import OPS as REFERENCE
from subbyte.execute.reference.step import moving
from subbyte.execute.torch import executor as torch_executor
from subbyte.execute.torch.ops import OPS as TORCH
from subbyte.execute.torch.step import Row
from subbyte.exporters import EXPORTERS
from subbyte.exporters.onnx import to_onnx
from subbyte.exporters.tflite import to_tflite
from subbyte.ir import OPS, Graph, Kind, OpDef, macs
from subbyte.ir.ops import work
from subbyte.passes import optimize
from subbyte.recipes import load_recipe
from tests.contract.agreement import random_images
from tests.contract.executor_suite import assert_equal, assert_within
from tests.contract.test_ops import TAKERS, assert_takes_or_disclaims_all
from tests.fuzz.builder import Builder
from tests.fuzz.graphs import wrap

ADVICE = "run the network with the torch executor until it does"


@pytest.fixture(autouse=True)
def mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    lacks = dict.fromkeys(("native", *EXPORTERS), ADVICE)
    row = OpDef("mirror", Kind.MOVE, (1, 1), lambda node, shapes: shapes[0], keeps_grid=True, lacks=lacks)
    monkeypatch.setitem(OPS, "mirror", row)
    monkeypatch.setitem(REFERENCE, "mirror", moving(lambda step, arrays: arrays[0][:, :, ::-1]))
    monkeypatch.setitem(TORCH, "mirror", Row(lambda step, arrays: arrays[0].flip(3)))


def quantized() -> Graph:
    b = Builder(random.Random(0), (5, 7, 3))
    x = b.qconv(b.quantize("image"), 6, (3, 3), act="silu")
    turned = b.add("mirror", [x], b.values[x].q)
    return b.finish(b.qconv(turned, 4, (3, 3), bits=4), turned)


def real() -> Graph:
    b = Builder(random.Random(1), (6, 8, 3))
    x = b.add("mirror", [b.fconv("image", 8, 3, act="relu")])
    y = b.fconv(x, 8, 3, act="silu")
    vector = b.flatten(b.add("global_avg_pool", [y]))
    return b.finish(b.flinear(vector, 5))


@pytest.mark.parametrize("name", ["reference", "torch"])
def test_executors_run_it(name: str) -> None:
    outputs = assert_equal(EXECUTORS[name], quantized(), random_images(quantized(), 2, 1))
    assert all(array.any() for array in outputs.values())
    assert_within(EXECUTORS[name], real(), random_images(real(), 2, 1))


def test_it_is_verified() -> None:
    b = Builder(random.Random(0), (5, 7, 3))
    x = b.quantize("image")
    b.add("mirror", [x], b.grid())
    with pytest.raises(GraphError, match="must keep the grid"):
        b.finish(b.nodes[-1].output)


def test_it_costs_what_its_row_says() -> None:
    graph = quantized()
    assert work(graph)["mirror2"] == 5 * 7 * 6
    assert "mirror2" not in macs(graph)


def test_a_network_with_it_is_compressed_and_stored(tmp_path: Path) -> None:
    graph = optimize(real())
    images = random_images(graph, 16, 2)
    result = compress(graph, load_recipe("w4a8"), [images])
    assert result.value(result.node("mirror1").output).q is not None
    save(tmp_path / "a.subbyte", wrap(result))
    stored = load(tmp_path / "a.subbyte").graph
    expected = reference.run(result, images)
    for name, array in torch_executor.run(stored, images).items():
        assert np.array_equal(array, expected[name])


@pytest.mark.parametrize("name", TAKERS)
def test_the_tables_are_whole_again(name: str) -> None:
    assert_takes_or_disclaims_all(TAKERS[name])


def test_who_lacks_it_says_so() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("ai_edge_litert")
    for graph, take, what in (
        (quantized(), Session, "the engine"),
        (real(), to_onnx, "ONNX export"),
        (real(), to_tflite, "TensorFlow Lite export"),
    ):
        with pytest.raises((GraphError, InputError)) as error:
            take(graph)
        name = next(node.name for node in graph.nodes if node.op == "mirror")
        assert str(error.value) == f"node {name!r}: {what} has no mirror; {ADVICE}"
