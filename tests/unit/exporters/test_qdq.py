"""QDQ models in ONNX Runtime: the graph's codes, but for roundings that are bounded in nodes.py."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from subbyte.exporters import EXPORTERS
from subbyte.exporters.onnx import to_nchw, to_nhwc
from subbyte.exporters.qdq import executed, to_qdq
from subbyte.ir import OPS, Graph
from tests.contract.agreement import random_images
from tests.fuzz import graphs
from tests.fuzz.builder import Builder
from tests.unit.exporters.nodes import assert_nodes_agree, codes_of

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

GRAPHS = {
    name: graph
    for name, graph in ((name, wrapped.graph) for name, wrapped in graphs.seeds().items())
    if any(value.q is not None for value in graph.values.values())
    and not any("qdq" in OPS[node.op].lacks for node in graph.nodes)
}


def all_values(graph: Graph, x: np.ndarray, **options: Any) -> dict[str, np.ndarray]:
    """Every value of the graph as ONNX Runtime computes it: codes where it is on a grid."""
    everything = replace(graph, outputs=tuple(node.output for node in graph.nodes))
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.x64quantprecision", "1")  # no sums of 16 bits without VNNI
    model = to_qdq(everything, batch=len(x), **options).SerializeToString()
    session = ort.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    arrays = session.run(None, {graph.input: to_nchw(x)})
    values = {graph.input: x}
    for name, real in zip(everything.outputs, arrays, strict=True):
        values[name] = codes_of(graph.value(name), to_nhwc(real))
    return values


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", GRAPHS)
def test_every_node_agrees_with_the_reference(name: str, fused: bool) -> None:
    graph = GRAPHS[name]
    values = all_values(graph, random_images(graph, 2, 1), fused_residuals=fused)
    shares = assert_nodes_agree(graph, values, rounded_sums=not fused)
    if fused:  # what is rounded once in both is nearly always rounded alike
        assert np.mean(list(shares.values())) > 0.98


@pytest.mark.parametrize("name", [name for name in GRAPHS if any(n.op == "mul" for n in GRAPHS[name].nodes)])
def test_gates_of_an_exact_model_are_equal(name: str) -> None:
    """From equal codes: products are 1/512 of a code or more from a tie, and float32's rounding is less."""
    graph = GRAPHS[name]
    values = all_values(graph, random_images(graph, 2, 1), exact=True)
    shares = assert_nodes_agree(graph, values, rounded_sums=False)
    assert {shares[node.name] for node in graph.nodes if node.op == "mul" and node.name in shares} <= {1.0}


def test_int4_weights_are_the_same_numbers() -> None:
    b = Builder(random.Random(3), (6, 6, 5))
    x = b.qconv(b.qconv(b.quantize("image"), 7, (3, 3), bits=4), 6, bits=2)
    graph = b.finish(b.qlinear(b.flatten(x), 5, bits=3))
    images = random_images(graph, 2, 3)
    assert_nodes_agree(graph, all_values(graph, images, int4=True), True)
    models = {int4: to_qdq(graph, int4=int4) for int4 in (False, True)}
    weights = {
        int4: {t.name: t for t in model.graph.initializer if t.name.endswith(".weight")}
        for int4, model in models.items()
    }
    for name, packed in weights[True].items():
        assert packed.data_type == onnx.TensorProto.INT4
        plain = onnx.numpy_helper.to_array(weights[False][name])
        assert plain.dtype == np.int8
        assert np.array_equal(onnx.numpy_helper.to_array(packed).astype(np.int8), plain)
    assert [m.opset_import[0].version for m in models.values()] == [20, 21]


def test_a_code_book_is_expanded() -> None:
    b = Builder(random.Random(4), (3, 3, 4))
    graph = b.finish(b.qconv(b.quantize("image"), 4, bits=4, codebook=True))
    (weight,) = (t for t in to_qdq(graph, int4=True).graph.initializer if t.name.endswith(".weight"))
    assert weight.data_type == onnx.TensorProto.INT8


def test_values_keep_their_names_and_grids() -> None:
    graph = graphs.quantized(random.Random(8), 8)
    model = to_qdq(graph)
    made = {node.output[0]: node for node in model.graph.node}
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for value in graph.values.values():
        if value.q is not None:
            assert made[value.name].op_type == "QuantizeLinear"
            scale, zero = (tensors[name] for name in made[value.name].input[1:])
            assert (float(scale), int(zero), zero.dtype) == (value.q.scale, value.q.zero_point, np.uint8)
    assert [o.name for o in model.graph.output] == list(graph.outputs)


def test_ranges_make_the_grid_of_sums() -> None:
    b = Builder(random.Random(5), (4, 4, 6))
    x = b.quantize("image")
    graph = b.finish(b.qconv(x, 6, residual=x))
    y = graph.outputs[0]
    model = to_qdq(graph, ranges={y: (-1.0, 4.1)})
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    assert float(tensors[f"{y}/codes.scale"]) == np.float32(5.1 / 255)
    assert int(tensors[f"{y}/codes.zero"]) == 50
    assert not any("codes" in node.name for node in to_qdq(graph, fused_residuals=True).graph.node)


def test_it_says_what_onnxruntime_executes() -> None:
    b = Builder(random.Random(6), (8, 8, 4))
    x = b.quantize("image")
    y = b.qconv(x, 4, (3, 3), act="silu")
    z = b.qconv(y, 4, residual=y)
    w = b.qconv(z, 4, out_bits=4)
    pooled = b.add("global_avg_pool", [b.max_pool(w)], b.grid())
    real = b.fconv(b.add("dequantize", [pooled]), 3, act="silu")
    graph = b.finish(real)
    row = EXPORTERS["qdq"]
    found = row.executed(graph, row.export(graph))
    expected = ["float32", "int8, silu in float32", "int8", "int8", "int8", "int8", "float32", "float32"]
    assert list(found.values()) == expected
    assert list(found) == [node.name for node in graph.nodes]
    fused = executed(graph, row.export(graph, fused_residuals=True))
    assert fused == {**found, graph.nodes[2].name: "float32"}
