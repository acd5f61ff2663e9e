"""QONNX models, executed as the dialect defines Quant: equal codes where float32 is exact, else near ones."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from subbyte.errors import InputError
from subbyte.execute import reference
from subbyte.exporters.onnx import to_nchw, to_nhwc
from subbyte.exporters.qonnx import executed, to_qonnx
from subbyte.ir import Graph, Node, Value
from subbyte.quant import QParams, QTensor
from tests.contract.agreement import random_images
from tests.fuzz import graphs
from tests.fuzz.builder import Builder
from tests.unit.exporters.nodes import assert_nodes_agree, codes_of

onnx = pytest.importorskip("onnx")


def quant(
    x: np.ndarray,
    scale: np.ndarray,
    zero: np.ndarray,
    bits: np.ndarray,
    signed: int,
    narrow: int,
    rounding_mode: str,
) -> np.ndarray:
    """Quant of arXiv 2206.07527, equations 1 and 2, in float32."""
    assert rounding_mode == "ROUND"
    width = int(bits)
    low = -(2 ** (width - 1)) + narrow if signed else 0
    high = 2 ** (width - 1) - 1 if signed else 2**width - 1 - narrow
    codes = np.round(np.clip(x / scale + zero, np.float32(low), np.float32(high)))
    return ((codes - zero) * scale).astype(np.float32)


def evaluate(graph: Graph, x: np.ndarray) -> dict[str, np.ndarray]:
    """Every value of the graph, by onnx's own evaluator."""
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class Quant(OpRun):
        op_domain = "qonnx.custom_op.general"

        def _run(self, *inputs: np.ndarray, **attrs: Any) -> tuple[np.ndarray]:
            x, scale, zero, bits = inputs
            given = {name: attrs[name] for name in ("signed", "narrow", "rounding_mode")}
            return (quant(x, scale, zero, bits, **given),)

    everything = replace(graph, outputs=tuple(node.output for node in graph.nodes))
    model = to_qonnx(everything, batch=len(x))
    arrays = ReferenceEvaluator(model, new_ops=[Quant]).run(None, {graph.input: to_nchw(x)})
    values = {graph.input: x}
    for name, real in zip(everything.outputs, arrays, strict=True):
        values[name] = codes_of(graph.value(name), to_nhwc(np.asarray(real)))
    return values


def power(number: float) -> float:
    return 2.0 ** round(math.log2(number))


def exact(graph: Graph) -> Graph:
    """The graph on grids whose scales are powers of two and whose zero points are even, so that float32
    rounds nothing and halves go to the same side before and after a zero point is added."""

    def grid(q: QParams) -> QParams:
        return replace(q, scale=power(q.scale), zero_point=q.zero_point & ~1)

    def of(node: Node) -> Node:
        weight = node.params.get("weight")
        if not isinstance(weight, QTensor):
            return node
        scale = np.exp2(np.round(np.log2(weight.scale)))
        return node.with_(params={**node.params, "weight": replace(weight, scale=scale)})

    values: Mapping[str, Value] = {
        name: value if value.q is None else replace(value, q=grid(value.q))
        for name, value in graph.values.items()
    }
    return replace(graph, values=values, nodes=tuple(map(of, graph.nodes)))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_equal_where_float32_is_exact(bits: int) -> None:
    b = Builder(random.Random(bits), (7, 6, 4))
    x = b.qconv(b.quantize("image", bits), 8, (3, 3), bits=bits, act="relu", out_bits=bits)
    y = b.qconv(x, 8, (3, 3), 2, groups=8, bits=bits, act="relu6", out_bits=8)
    z = b.qconv(y, 8, bits=bits, residual=y, codebook=bits < 8)
    s = b.add("add", [b.max_pool(z, 3, 1), y], b.grid())
    graph = exact(b.finish(b.qlinear(b.flatten(s), 5, bits=bits, real=False), s))
    images = random_images(graph, 2, bits)
    values = evaluate(graph, images)
    expected = reference.run(replace(graph, outputs=tuple(n.output for n in graph.nodes)), images)
    for name, codes in expected.items():
        assert np.array_equal(values[name], codes), name
    assert len(np.unique(values[s])) > 2 * bits


NAMES = ("quantized3", "quantized8", "narrow", "mixed", "balanced")


@pytest.mark.parametrize("name", NAMES)
def test_every_node_agrees_with_the_reference(name: str) -> None:
    graph = graphs.seeds()[name].graph
    values = evaluate(graph, random_images(graph, 1, 1))
    shares = assert_nodes_agree(graph, values, rounded_sums=False)
    assert np.mean(list(shares.values())) > 0.98


def test_widths_and_their_attributes() -> None:
    b = Builder(random.Random(1), (4, 4, 3))
    x = b.qconv(b.quantize("image", 3), 5, bits=2, act="relu", out_bits=4)
    graph = b.finish(b.qconv(b.qconv(x, 4, bits=4, codebook=True), 4, bits=3))
    model = to_qonnx(graph)
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type == "Quant":
            assert node.domain == "qonnx.custom_op.general"
            attrs = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            assert attrs["rounding_mode"] == b"ROUND"
            scale, zero, bits = (tensors[name] for name in node.input[1:])
            found[node.output[0]] = (int(bits), attrs["signed"], float(zero))
            if node.output[0] in graph.values:
                assert scale == graph.value(node.output[0]).grid.scale
    expected = {v.name: (v.q.bits, 0, v.q.zero_point) for v in graph.values.values() if v.q is not None}
    assert {name: given for name, given in found.items() if name in graph.values} == expected
    weights = [given for name, given in found.items() if name.endswith(".weight/quant")]
    assert weights == [(2, 1, 0.0), (8, 1, 0.0), (3, 1, 0.0)]  # a code book's levels are int8
    assert executed(graph, b"") == {
        "quantize0": "float32",
        "conv2d1": "int2 x uint3",
        "conv2d2": "int8 x uint4",
        "conv2d3": "int3 x uint8",
    }


def test_narrow_weights_are_named() -> None:
    b = Builder(random.Random(2), (2, 2, 3))
    b.qconv(b.quantize("image"), 4, bits=8)
    for low, narrow in ((-127, 1), (-128, 0)):
        node = b.nodes[-1]
        weight = node.params["weight"]
        assert isinstance(weight, QTensor)
        codes = np.maximum(weight.codes, 129)
        codes[0] = low & 255
        b.nodes[-1] = node.with_(params={**node.params, "weight": replace(weight, codes=codes)})
        model = to_qonnx(b.finish(node.output))
        (made,) = (n for n in model.graph.node if n.output[0].endswith("weight/quant"))
        assert {a.name: a.i for a in made.attribute}["narrow"] == narrow


def test_levels_are_refused() -> None:
    graph = graphs.leveled(random.Random(11))
    with pytest.raises(InputError, match="has 4-bit levels in a byte; compress without learned levels"):
        to_qonnx(graph)
