"""TensorFlow Lite models compute what the graph says: equal codes but for roundings that are bounded here."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from subbyte.errors import InputError
from subbyte.execute import reference
from subbyte.exporters import EXPORTERS
from subbyte.exporters.grids import residual_grid
from subbyte.exporters.ranges import observe_ranges
from subbyte.exporters.tflite import to_tflite
from subbyte.ir import Graph, Value
from subbyte.quant import QTensor
from tests.contract.agreement import random_images
from tests.fuzz.builder import Builder

pytest.importorskip("ai_edge_litert")
from subbyte.benchmark.litert_peer import _interpreter, _runner

Build = Callable[[Builder, str], str]


def execute(model: bytes, x: np.ndarray) -> list[np.ndarray]:
    return list(_runner(_interpreter(1, model_content=model))(x))


def residual(b: Builder, x: str) -> str:
    return b.qconv(x, 6, (3, 3), residual=x)


def max_pool(b: Builder, x: str) -> str:
    attrs = {"kernel": (3, 2), "stride": (2, 2), "pad": (1, 1, 0, 0)}
    return b.add("max_pool2d", [x], b.values[x].q, attrs)


def gate(b: Builder, x: str) -> str:
    return b.add("mul", [x, b.add("global_avg_pool", [x], b.grid(8, -1, 1))], b.grid(8, -1.5, 1.5))


def gate_with_factors(b: Builder, x: str) -> str:
    pooled = b.add("global_avg_pool", [x], b.grid(8, -1, 1))
    return b.add("mul", [x, pooled], b.grid(8, -1.5, 1.5), None, b.channel_scale(x, 4.0))


#: What is built on codes of a [9, 8, 6] map, and how many codes apart the results may be.
#: One: the sum is rounded through a fixed-point multiplier there and a float32 one here. More where the
#: format needs a grid in between, which rounds once more; see `bound`.
CASES: dict[str, Build] = {
    "1x1": lambda b, x: b.qconv(x, 7),
    "1x1 relu": lambda b, x: b.qconv(x, 7, act="relu"),
    "3x3 same": lambda b, x: b.qconv(x, 5, (3, 3), act="relu6"),
    "3x3 stride": lambda b, x: b.qconv(x, 5, (3, 3), 2, pad=(1, 1, 1, 1)),
    "tensorflow's same": lambda b, x: b.qconv(x, 5, (3, 3), 2, pad=(1, 1, 0, 1)),
    "odd padding": lambda b, x: b.qconv(x, 5, (5, 3), pad=(3, 0, 0, 2)),
    "valid": lambda b, x: b.qconv(x, 5, (3, 3), pad=(0, 0, 0, 0)),
    "grouped": lambda b, x: b.qconv(x, 4, (3, 3), groups=2),
    "depthwise": lambda b, x: b.qconv(x, 6, (3, 3), groups=6, act="relu"),
    "depthwise stride": lambda b, x: b.qconv(x, 6, (5, 5), 2, groups=6, pad=(2, 2, 1, 2)),
    "silu": lambda b, x: b.qconv(x, 7, act="silu"),
    "hard_swish": lambda b, x: b.qconv(x, 7, act="hard_swish"),
    "hard_sigmoid": lambda b, x: b.qconv(x, 7, act="hard_sigmoid"),
    "leaky_relu": lambda b, x: b.qconv(x, 7, act="leaky_relu:0.25"),
    "elu": lambda b, x: b.qconv(x, 7, act="elu"),
    "gelu": lambda b, x: b.qconv(x, 7, act="gelu"),
    "gelu_tanh": lambda b, x: b.qactivation(x, "gelu_tanh"),
    "relu alone": lambda b, x: b.qactivation(x, "relu"),
    "relu6 alone": lambda b, x: b.qactivation(x, "relu6"),
    "sigmoid": lambda b, x: b.qactivation(b.qconv(x, 7, act="sigmoid"), "none"),
    "residual": residual,
    "add": lambda b, x: b.add("add", [x, b.qconv(x, 6)], b.grid()),
    "gate": gate,
    "gate with factors": gate_with_factors,
    "pool": lambda b, x: b.add("global_avg_pool", [x], b.grid(8, -0.5, 0.5)),
    "activation": lambda b, x: b.qactivation(x, "silu"),
    "max pool": max_pool,
    "padded max pool": lambda b, x: b.keep("max_pool2d", x, kernel=(3, 3), stride=(2, 2), pad=(1, 1, 1, 1)),
    "slice": lambda b, x: b.keep("slice", x, begin=(1, 0, 2), end=(9, 8, 6), step=(2, 1, 3)),
    "rearrange": lambda b, x: b.keep("rearrange", x, dims=(9, 8, 2, 3), perm=(1, 0, 3, 2), size=(8, 9, 6)),
    "dilation": lambda b, x: b.qconv(x, 5, (3, 3), dilation=(2, 1), pad=(2, 2, 1, 1)),
    "concat": lambda b, x: b.concat(x, x),
    "flatten, linear": lambda b, x: b.qlinear(b.flatten(x), 5, real=False),
}


def bound(graph: Graph) -> float:
    """Codes of the last node's grid: 1, and half a step of each grid that the format puts in between."""
    node = graph.nodes[-2]
    y = graph.value(node.output).q
    assert y is not None
    if len(node.inputs) == 2 and node.op == "conv2d":
        r = graph.value(node.inputs[1]).q
        assert r is not None
        return 1 + ((y.high - y.low) + (r.high - r.low)) / 255 / 2 / y.scale
    act = node.attrs.get("act", "none")
    if act == "silu":  # the gate is right to half of 1/256, times the largest operand
        return 1 + 4.0 * 1.2 / 512 / y.scale
    if act == "none" and node.op == "activation":  # of sigmoid: half of 1/256 there, half of the grid's here
        return 1 + 1 / 512 / y.scale + 1
    return 1


@pytest.mark.parametrize("name", CASES)
def test_codes_are_near(name: str) -> None:
    for seed in (1, 2):
        b = Builder(random.Random(seed), (9, 8, 6))
        y = CASES[name](b, b.quantize("image"))
        graph = b.finish(b.add("dequantize", [y]))
        x = random_images(graph, 2, seed)
        (real,) = execute(to_tflite(graph, batch=2), x)
        (expected,) = reference.run(graph, x).values()
        q = graph.value(y).q
        assert q is not None
        codes, wanted = (np.round(array / q.scale) for array in (real, expected))
        assert len(np.unique(wanted)) > 5  # an error would show
        assert np.abs(codes - wanted).max() <= bound(graph), name
        assert np.abs(codes - wanted).mean() < 0.3 * bound(graph)


def test_float_outputs_of_a_quantized_layer_take_their_range() -> None:
    b = Builder(random.Random(3), (4, 4, 5))
    graph = b.finish(b.qlinear(b.flatten(b.quantize("image")), 9))
    x = random_images(graph, 1, 3)
    (expected,) = reference.run(graph, x).values()
    low, high = float(expected.min()), float(expected.max())
    (actual,) = execute(to_tflite(graph, ranges={graph.outputs[0]: (low, high)}), x)
    step = (max(high, 0) - min(low, 0)) / 255
    assert np.abs(actual - expected).max() <= step


@pytest.mark.parametrize("act", ["sigmoid", "relu"])
def test_functions_of_float_outputs(act: str) -> None:
    """A sigmoid stays in integers, as accelerators need it; others are of what codes stand for."""
    b = Builder(random.Random(3), (4, 4, 5))
    sums = b.qlinear(b.flatten(b.quantize("image")), 9)
    graph = b.finish(b.add("activation", [sums], None, {"act": act}))
    x = random_images(graph, 1, 3)
    (expected,) = reference.run(graph, x).values()
    ranges = {sums: (-8.0, 8.0)}
    (actual,) = execute(to_tflite(graph, ranges=ranges), x)
    step = (
        16 / 255
    )  # the sums' error; a sigmoid's slope is at most 1/4, its codes are 1/256 apart and below 1
    bound = step / 4 + 1 / 256 if act == "sigmoid" else step
    inside = np.abs(actual - expected) <= bound
    assert inside[np.abs(expected) < 8.0].all()
    interpreter = _interpreter(1, model_content=to_tflite(graph, ranges=ranges, integer_io=True))
    codes = {d["dtype"] for d in interpreter.get_tensor_details()} <= {np.int8, np.int32}
    assert codes == (act == "sigmoid")


def test_float_graphs() -> None:
    """Noise over signal as in the tests of the other peers: 5 layers of sums of at most 108 terms."""
    b = Builder(random.Random(4), (10, 9, 3))
    x = b.fconv("image", 12, 3, act="silu")
    y = b.fconv(x, 12, 3, groups=12, act="hard_swish", stride=2)
    z = b.fconv(b.fconv(y, 12, 2, act="relu"), 12, act="sigmoid", residual=y)
    z = b.add("mul", [z, b.add("global_avg_pool", [b.concat(z)])])
    z = b.add("mul", [z, b.add("global_avg_pool", [z])], None, None, b.channel_scale(z, 3.0))
    graph = b.finish(b.flinear(b.flatten(z), 5), x)
    images = random_images(graph, 3, 4)
    expected = list(reference.run(graph, images).values())
    for actual, wanted in zip(execute(to_tflite(graph, batch=3), images), expected, strict=True):
        noise = np.square(actual - wanted).sum() / np.square(wanted).sum()
        assert noise <= (5 * 108 * 2.0**-24) ** 2


def test_what_it_does_not_know_is_an_error() -> None:
    def refused(message: str, build: Build) -> None:
        b = Builder(random.Random(5), (6, 6, 4))
        graph = b.finish(build(b, b.quantize("image")))
        with pytest.raises(InputError, match=message):
            to_tflite(graph)

    refused("takes 8-bit activations", lambda b, x: b.qconv(x, 4, out_bits=4))
    refused("has no mish", lambda b, x: b.qactivation(x, "mish"))
    refused("has no elu:0.5:1.0:1.0", lambda b, x: b.qconv(x, 4, act="elu:0.5:1.0:1.0"))
    refused(
        "has no clip", lambda b, x: b.add("activation", [b.add("dequantize", [x])], None, {"act": "clip"})
    )
    refused("has no batch_norm", lambda b, x: b.batch_norm(b.add("dequantize", [x])))


def test_patterns_become_dense_weights() -> None:
    b = Builder(random.Random(4), (5, 6, 18))
    x = b.quantize("image")
    sparse = b.finish(b.qconv(x, 20, pattern="2:4"), b.qconv(x, 20, (3, 3), pattern="4x16:50"))
    nodes = []
    for node in sparse.nodes:
        weight = node.params.get("weight")
        if isinstance(weight, QTensor):
            node = node.with_(params={**node.params, "weight": replace(weight, format=weight.format.dense)})
        nodes.append(node)
    dense = replace(sparse, nodes=tuple(nodes))
    assert dense.nodes[1].params["weight"].format != sparse.nodes[1].params["weight"].format  # type: ignore[union-attr]
    assert to_tflite(sparse) == to_tflite(dense)


def test_codes_in_and_out() -> None:
    """What accelerators take: no float32 tensor is left, and the codes are those behind float32 ends."""
    b = Builder(random.Random(6), (6, 5, 4))
    x = b.qconv(b.quantize("image"), 6, (3, 3), act="silu")
    y = b.qlinear(b.flatten(x), 5)
    graph = b.finish(y, b.add("dequantize", [x]))
    images = random_images(graph, 1, 6)
    ranges = observe_ranges(graph, [images])
    real = execute(to_tflite(graph, ranges=ranges), images)
    interpreter = _interpreter(1, model_content=to_tflite(graph, ranges=ranges, integer_io=True))
    assert {d["dtype"] for d in interpreter.get_tensor_details()} <= {np.int8, np.int32}
    (source,) = interpreter.get_input_details()
    scale, zero = source["quantization"]
    image = graph.value(graph.nodes[0].output).grid
    assert (scale, zero) == (np.float32(image.scale), image.zero_point - 128)
    codes = (image.quantize(images).astype(np.int16) - 128).astype(np.int8)
    given = _runner(interpreter)(codes)
    for expected, actual, details in zip(real, given, interpreter.get_output_details(), strict=True):
        scale, zero = details["quantization"]
        assert np.array_equal((actual.astype(np.float32) - zero) * np.float32(scale), expected)


def test_codes_in_need_an_image_that_is_quantized_once() -> None:
    b = Builder(random.Random(7), (3, 3, 2))
    graph = b.finish(b.qconv(b.quantize("image"), 2), b.fconv("image", 2))
    with pytest.raises(InputError, match="whose image is quantized once, before anything else"):
        to_tflite(graph, integer_io=True, ranges={})


def test_a_missing_range_is_named() -> None:
    b = Builder(random.Random(8), (3, 3, 2))
    graph = b.finish(b.qlinear(b.flatten(b.quantize("image")), 2))
    with pytest.raises(
        InputError, match="needs the range of 'v2', a float32 output of a quantized layer; give"
    ):
        to_tflite(graph)


@pytest.mark.parametrize(("levels", "words"), [(False, "4 bits"), (True, "4-bit levels in a byte")])
def test_narrow_activations_are_refused_with_advice(levels: bool, words: str) -> None:
    b = Builder(random.Random(9), (3, 3, 2))
    graph = b.finish(b.qconv(b.quantize("image"), 2, out_bits=4, levels=levels))
    with pytest.raises(InputError, match=f"8-bit activations, but 'v1' has {words}; compress with 8-bit"):
        to_tflite(graph)


def test_it_says_what_is_executed() -> None:
    b = Builder(random.Random(10), (3, 3, 4))
    x = b.quantize("image")
    pooled = b.add("global_avg_pool", [x], b.grid(8, -1, 1))
    y = b.add("mul", [x, pooled], b.grid(8, -1.5, 1.5), None, b.channel_scale(x, 2.0))
    graph = b.finish(b.fconv(b.add("dequantize", [b.qconv(y, 3, act="silu")]), 2))
    row = EXPORTERS["tflite"]
    found = row.executed(graph, row.export(graph))
    assert list(found.values()) == ["float32", "int8", "float32", "int8", "int8", "float32"]


def test_observed_ranges_hold_all_sums_and_make_finer_grids() -> None:
    b = Builder(random.Random(11), (6, 5, 4))
    x = b.quantize("image")
    y = b.qconv(x, 4, (3, 3), residual=x)
    graph = b.finish(b.qconv(y, 3, out_bits=None), y)
    images = random_images(graph, 3, 11)
    ranges = observe_ranges(graph, [images[:2], images[2:]])
    assert ranges.keys() == {"v1", "v2"}
    logits = reference.run(graph, images)["v2"]
    assert ranges["v2"] == (float(logits.min()), float(logits.max()))
    layer = graph.nodes[1]
    without = layer.with_(inputs=layer.inputs[:1], output="sums")
    alone = replace(
        graph,
        outputs=("sums",),
        nodes=(graph.nodes[0], without),
        values={"image": graph.value("image"), "v0": graph.value("v0"), "sums": Value("sums", (6, 5, 4))},
    )
    sums = reference.run(alone, images)["sums"]
    assert ranges["v1"] == (float(sums.min()), float(sums.max()))
    assert residual_grid(graph, layer, ranges).scale < residual_grid(graph, layer, {}).scale
    assert observe_ranges(replace(graph, outputs=("v0",), nodes=graph.nodes[:1]), [images]) == {}
