"""Files that are quantized keep codes and grids, and run as in ONNX Runtime, a step apart at most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import subbyte
from subbyte.compress.model import compress_model
from subbyte.errors import InputError, UnsupportedOperatorError
from subbyte.execute import EXECUTORS
from subbyte.execute.reference.executor import run
from subbyte.importers import Imported
from subbyte.ir import Graph, is_weighted
from subbyte.quant import QParams, QTensor
from tests.unit.importers.onnx.network import Net, imported, onnx, preprocessing, runtime, saturates

pytestmark = pytest.mark.skipif(
    saturates(), reason="ONNX Runtime's 8-bit products overflow on this CPU: there is nothing to compare with"
)

f32 = np.float32
T = onnx.TensorProto
MICROSOFT = "com.microsoft"
#: Where our results and ONNX Runtime's differ, one rounding was a tie, or nearly one: they are a step apart.
#: Ties are rare; the networks here have up to eight roundings in a row, each of which moves few codes.
EQUAL = 0.97


class Quantized(Net):
    """A file with QuantizeLinear and DequantizeLinear around its layers; `signed`: codes are int8."""

    def __init__(self, seed: int = 0, signed: bool = False, **more: Any) -> None:
        super().__init__(seed, opset=25, **more)
        self.signed = signed

    def grid(self, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        scale = f32((high - low) / 255)
        zero = int(np.clip(np.rint(-low / scale), 0, 255))
        return np.asarray(scale), np.array(zero - 128, np.int8) if self.signed else np.array(zero, np.uint8)

    def round(self, low: float, high: float, x: str | None = None) -> str:
        """Q and DQ behind a tensor."""
        grid = self.grid(low, high)
        self.op("QuantizeLinear", x or self.last, *grid)
        return self.op("DequantizeLinear", self.last, *grid)

    def weight(self, *shape: int, bits: int = 8, unsigned: bool = False, axis: int = 0) -> str:
        """DQ of int8, int4 or int2 codes, or unsigned ones around the middle, a scale per channel."""
        half = 1 << (bits - 1)
        codes = self.rng.integers(-half, half, shape) + (half if unsigned else 0)
        kinds = {8: (T.UINT8, T.INT8), 4: (T.UINT4, T.INT4), 2: (T.UINT2, T.INT2)}[bits]
        kind = kinds[0 if unsigned else 1]
        fan = np.prod(shape) / shape[axis]
        scales = (0.5 + self.rng.random(shape[axis])) / half / np.sqrt(fan)
        zeros = self.constant(np.full(shape[axis], half if unsigned else 0), kind)
        return self.op("DequantizeLinear", self.constant(codes, kind), scales.astype(f32), zeros, axis=axis)

    def bias(self, size: int, x: np.ndarray, weight: str) -> str:
        """DQ of int32 in units of the input's scale times the weights'."""
        (node,) = (node for node in self.nodes if node.output[0] == weight)
        (scales,) = (t for t in self.tensors if t.name == node.input[1])
        codes = self.rng.integers(-4000, 4000, size).astype(np.int32)
        unit = (x * onnx.numpy_helper.to_array(scales)).astype(f32)
        return self.op("DequantizeLinear", self.constant(codes), unit, np.zeros(size, np.int32), axis=0)

    def layer(
        self, x: str, scale: np.ndarray, inputs: int, outputs: int, kernel: int = 3, **attrs: Any
    ) -> str:
        """Conv of a rounded tensor."""
        bits, unsigned = attrs.pop("bits", 8), attrs.pop("unsigned", False)
        shape = (outputs, inputs // attrs.get("group", 1), kernel, kernel)
        weight = self.weight(*shape, bits=bits, unsigned=unsigned)
        bias = self.bias(outputs, scale, weight)
        return self.op("Conv", x, weight, bias, pads=[kernel // 2] * 4, **attrs)


def check(net: Net, folder: Path, step: float, equal: float = EQUAL, **sizes: Any) -> Imported:
    """Asserts one step at most to ONNX Runtime with and without its own rewriting, equality in a share of all
    numbers, and equality of the engine, where no layer sums float32 numbers in an order of its own."""
    path, x = net.file(folder, **sizes), net.images(4)
    found = imported(path)
    graph = found.graph
    (name,) = graph.outputs
    got = run(graph, x)[name]
    assert np.ptp(got) > 20 * step, "nearly constant outputs would hide mistakes"
    engine = EXECUTORS["native"].prepare(graph).run(x)[name]
    if {where for _, where in kinds(graph)} == {"codes"}:
        np.testing.assert_array_equal(engine, got)
    for expected in (engine, *runtime(path, x), *runtime(path, x, optimized=True)):
        assert got.shape == expected.shape
        steps = np.abs(got - expected.astype(np.float64)) / step
        assert steps.max() < 1.5
        assert (steps < 0.5).mean() >= equal
    return found


def kinds(graph: Graph) -> Counter[tuple[str, str]]:
    """Operations but for grids, and what they compute with."""
    real = {True: "float", False: "codes"}
    return Counter(
        (node.op, real[graph.value(node.inputs[0]).q is None])
        for node in graph.nodes
        if node.op not in ("quantize", "dequantize")
    )


@pytest.mark.parametrize("signed", [False, True])
def test_a_network_is_integers_throughout(tmp_path: Path, signed: bool) -> None:
    """Convolutions with functions behind them, squeeze-and-excitation, a residual, pools, a classifier."""
    net = Quantized(1, signed)
    image = net.round(-4, 4, "x")
    pre = net.round(-3, 3, net.layer(image, net.grid(-4, 4)[0], 4, 8))
    x = net.round(-0.3, 3, net.op("Mul", pre, net.round(0, 1, net.op("Sigmoid", pre))))
    pooled = net.round(-0.3, 2, net.op("GlobalAveragePool", x))
    reduced = net.round(0, 2, net.op("Relu", net.layer(pooled, net.grid(-0.3, 2)[0], 8, 4, 1)))
    gate = net.round(
        0, 1, net.op("Sigmoid", net.round(-3, 3, net.layer(reduced, net.grid(0, 2)[0], 4, 8, 1)))
    )
    gated = net.round(-0.3, 3, net.op("Mul", x, gate))
    projected = net.round(-3, 3, net.layer(gated, net.grid(-0.3, 3)[0], 8, 8))
    added = net.round(-3, 4, net.op("Add", projected, x))
    both = net.round(-3, 4, net.op("Concat", added, x, axis=1))
    largest = net.op("MaxPool", both, kernel_shape=[2, 2], strides=[2, 2])
    vector = net.op("Flatten", net.round(-3, 4, net.op("GlobalAveragePool", net.round(-3, 4, largest))))
    net.round(-2, 2, net.op("Gemm", vector, net.weight(6, 16), transB=1))
    graph = check(net, tmp_path, float(net.grid(-2, 2)[0]), 0.9).graph
    found = kinds(graph)
    assert {where for _, where in found} == {"codes"}
    assert found["conv2d", "codes"] == 4
    assert found["activation", "codes"] == 1  # of the concat, one part of which is on another grid
    assert Counter(n.attrs["act"] for n in graph.nodes if n.op == "conv2d") == Counter(
        {"silu": 1, "none": 2, "sigmoid": 1}
    )
    (first, *_) = (node for node in graph.nodes if node.op == "conv2d")
    assert first.attrs["pre_scale"] == float(net.grid(-3, 3)[0])


@pytest.mark.parametrize(
    ("bits", "unsigned"), [(8, False), (8, True), (4, False), (4, True), (2, False), (2, True)]
)
def test_weights_stay_what_they_are(tmp_path: Path, bits: int, unsigned: bool) -> None:
    net = Quantized(2)
    image, (scale, zero) = net.round(-4, 4, "x"), net.grid(-4, 4)
    weight_bits: dict[str, Any] = {"bits": bits, "unsigned": unsigned}
    net.round(-2, 2, net.layer(image, scale, 4, 8, **weight_bits))
    codes = [onnx.numpy_helper.to_array(t) for t in net.tensors]
    graph = imported(net.file(tmp_path)).graph
    (node,) = filter(is_weighted, graph.nodes)
    weight, bias = node.params["weight"], node.params["bias"]
    assert isinstance(weight, QTensor)
    assert str(weight.format) == f"int{bits}"
    middle = 1 << (bits - 1) if unsigned else 0
    stored = next(array for array in codes if array.ndim == 4).astype(np.int64) - middle
    np.testing.assert_array_equal(weight.values(), stored.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(bias, next(array for array in codes if array.dtype == np.int32))
    assert graph.value(node.inputs[0]).q == QParams(float(scale), int(zero), 8)
    if bits == 8:  # of narrower ones this version of ONNX Runtime has no convolution
        check(net, tmp_path, float(net.grid(-2, 2)[0]))


def test_unsigned_weights_off_the_middle_stay_real(tmp_path: Path) -> None:
    """Their layer computes with the same numbers in float32."""
    net = Quantized(3)
    image = net.round(-4, 4, "x")
    codes = net.rng.integers(0, 256, (8, 4, 3, 3)).astype(np.uint8)
    weight = net.op("DequantizeLinear", codes, f32(0.002), np.array(90, np.uint8))
    net.round(-6, 6, net.op("Conv", image, weight))
    graph = check(net, tmp_path, float(net.grid(-6, 6)[0])).graph
    assert kinds(graph) == {("conv2d", "float"): 1}


FUNCTIONS: dict[str, Callable[[Quantized, str], str]] = {
    "relu": lambda n, x: n.round(0, 3, n.op("Relu", x)),
    "relu, zero inside": lambda n, x: n.round(-1, 3, n.op("Relu", x)),
    "relu6": lambda n, x: n.round(0, 8, n.op("Clip", x, f32(0), f32(6))),
    "clip": lambda n, x: n.round(-1, 1, n.op("Clip", x, f32(-1.1), f32(1.1))),
    "tanh": lambda n, x: n.round(-1, 1, n.op("Tanh", n.round(-3, 3, x))),
    "hard_swish": lambda n, x: n.round(-0.5, 3, n.op("HardSwish", n.round(-3, 3, x))),
    "residual": lambda n, x: n.round(-5, 5, n.op("Add", n.round(-4, 4, "x"), x)),
    "other grids of a concat": lambda n, x: n.round(
        -3, 4, n.op("Concat", n.round(-3, 3, x), n.round(-4, 4, "x"), axis=1)
    ),
}


@pytest.mark.parametrize("case", FUNCTIONS)
@pytest.mark.parametrize("signed", [False, True])
def test_what_follows_a_convolution(tmp_path: Path, case: str, signed: bool) -> None:
    net = Quantized(4, signed)
    net.round(-4, 4, "x")
    FUNCTIONS[case](net, net.layer(net.last, net.grid(-4, 4)[0], 4, 4))
    scale = next(t for t in net.tensors if t.name == net.nodes[-1].input[1])
    graph = check(net, tmp_path, float(onnx.numpy_helper.to_array(scale))).graph
    assert kinds(graph)["conv2d", "codes"] == 1


def test_a_function_without_a_grid_before_it_is_real(tmp_path: Path) -> None:
    net = Quantized(5)
    net.round(-4, 4, "x")
    x = net.layer(net.last, net.grid(-4, 4)[0], 4, 8)
    net.round(-0.3, 3, net.op("Mul", x, net.op("Sigmoid", x)))
    graph = check(net, tmp_path, float(net.grid(-0.3, 3)[0])).graph
    assert kinds(graph) == {("conv2d", "codes"): 1, ("activation", "float"): 1}


def test_real_outputs(tmp_path: Path) -> None:
    net = Quantized(6)
    vector = net.op("Flatten", net.round(-1, 1, net.op("GlobalAveragePool", net.round(-4, 4, "x"))))
    net.op("MatMul", vector, net.weight(4, 6, axis=1))
    path, x = net.file(tmp_path), net.images()
    graph = imported(path).graph
    (got,), (expected,) = run(graph, x).values(), runtime(path, x)
    assert kinds(graph) == {("global_avg_pool", "codes"): 1, ("flatten", "codes"): 1, ("linear", "codes"): 1}
    # 4 products of 2**15 units at most: exact but for the roundings of their scales and of the sum
    np.testing.assert_allclose(got, expected, rtol=0, atol=8 * 2.0**-24 * np.abs(expected).max() * 4)


def qlinear(net: Quantized, kind: str) -> float:
    """An operator that holds its quantization inside, and the step of its result."""
    scale, zero = net.grid(-4, 4)
    x = net.op("QuantizeLinear", "x", scale, zero)
    out_scale, out_zero = net.grid(-3, 3)
    out = (net.constant(out_scale), net.constant(out_zero))
    grid = (net.constant(scale), net.constant(zero))
    codes = net.rng.integers(-127, 128, (8, 4, 3, 3)).astype(np.int8)
    scales = (net.rng.random(8) / 400 + 1e-3).astype(f32)
    bias = net.rng.integers(-2000, 2000, 8).astype(np.int32)
    if kind == "QLinearConv":
        net.op(kind, x, *grid, codes, scales, np.zeros(8, np.int8), *out, bias, pads=[1, 1, 1, 1])
    elif kind == "QLinearAdd":
        net.op("QLinearAdd", x, *grid, x, *grid, *out, domain=MICROSOFT)
    elif kind == "QLinearGlobalAveragePool":
        out_scale = net.grid(-1, 1)[0]
        net.op(kind, x, *grid, net.constant(out_scale), out[1], domain=MICROSOFT, channels_last=0)
    elif kind == "QLinearSigmoid":
        out_scale, out_zero = net.grid(0, 1)
        net.op(kind, x, *grid, out_scale, out_zero, domain=MICROSOFT)
    elif kind == "QLinearConcat":
        net.op(kind, *out, x, *grid, x, *grid, domain=MICROSOFT, axis=1)
    else:
        vector = net.op("Flatten", x)
        matrix = net.rng.integers(-127, 128, (252, 6)).astype(np.int8)
        zeros = np.zeros((), np.int8)
        net.op("QLinearMatMul", vector, *grid, matrix, f32(0.0005), zeros, *out)
    net.op("DequantizeLinear", net.last, out_scale, out_zero)
    return float(out_scale)


@pytest.mark.parametrize(
    "kind",
    [
        "QLinearConv",
        "QLinearAdd",
        "QLinearMatMul",
        "QLinearGlobalAveragePool",
        "QLinearSigmoid",
        "QLinearConcat",
    ],
)
def test_operators_that_hold_their_quantization(tmp_path: Path, kind: str) -> None:
    net = Quantized(7)
    step = qlinear(net, kind)
    graph = check(net, tmp_path, step).graph
    assert {where for _, where in kinds(graph)} == {"codes"}


def test_images_as_codes(tmp_path: Path) -> None:
    """The network is given the real numbers that the codes stand for."""
    net = Quantized(8)
    scale, zero = net.grid(-4, 4)
    net.op("DequantizeLinear", "x", scale, zero)
    net.round(-3, 3, net.layer(net.last, scale, 4, 8))
    x, q = net.images(), QParams(float(scale), int(zero), 8)
    path = net.file(tmp_path, kind=T.UINT8)
    (got,) = run(imported(path).graph, x).values()
    (expected,) = runtime(path, q.quantize(x))
    assert (np.abs(got - expected) < 1.5 * float(net.grid(-3, 3)[0])).all()


def test_grids_that_are_none(tmp_path: Path) -> None:
    wrong: list[tuple[np.ndarray, np.ndarray, str]] = [
        (np.array(0, f32), np.array(0, np.uint8), "activation scale must be positive"),
        (np.array(np.nan, f32), np.array(0, np.uint8), "activation scale must be positive"),
        (np.array(1e-42, f32), np.array(0, np.uint8), "is not a normal float32 number"),
        (np.full(4, 0.1, f32), np.zeros(4, np.uint8), "one scale, not one per channel"),
        (np.array(0.1, f32), np.array(0, np.uint16), "its codes are uint16, not 8, 4 or 2 bits wide"),
    ]
    for scale, zero, text in wrong:
        net = Net()
        net.op("QuantizeLinear", "x", scale, zero, axis=1)
        with pytest.raises(UnsupportedOperatorError, match=text):
            imported(net.file(tmp_path))
    net = Quantized(9)
    net.op("QuantizeLinear", "x", *net.grid(-4, 4))
    net.op("DequantizeLinear", net.last, *net.grid(-3, 4))
    with pytest.raises(UnsupportedOperatorError, match="it reads another grid"):
        imported(net.file(tmp_path))


def small(folder: Path) -> Path:
    net = Quantized(10)
    net.round(-4, 4, "x")
    x = net.round(-2, 2, net.layer(net.last, net.grid(-4, 4)[0], 4, 8))
    net.op("Flatten", net.round(-1, 1, net.op("GlobalAveragePool", x)))
    return net.file(folder)


def test_compress_keeps_it_as_it_is(tmp_path: Path) -> None:
    path, file = small(tmp_path), tmp_path / "kept.subbyte"
    x = np.random.default_rng(0).normal(size=(2, 9, 7, 4)).astype(f32)
    subbyte.save(file, compress_model(path, preprocessing=preprocessing(), classes=tuple("abcdefgh")))
    kept = subbyte.load(file)
    (expected,) = run(imported(path).graph, x).values()
    np.testing.assert_array_equal(subbyte.Session(kept).run(x), expected)
    assert kept.recipe == {}
    assert kept.provenance["onnx"]["file"] == "net.onnx"


def test_only_a_recipe_quantizes_it_again(tmp_path: Path) -> None:
    path, images = small(tmp_path), np.zeros((1, 9, 7, 4), f32)
    again = compress_model(path, "w8a8", [images], preprocessing=preprocessing())
    assert again.recipe["name"] == "w8a8"
    assert "its 8-bit numbers" in again.provenance["dequantized"]
    with pytest.raises(InputError, match="use of calibration images, labels, a seed; without"):
        compress_model(
            path, None, [images], labels=np.zeros(1, np.int64), seed=1, preprocessing=preprocessing()
        )
    net = Net()
    net.conv(4, 8)
    with pytest.raises(InputError, match="the network is float32; give a recipe"):
        compress_model(net.file(tmp_path), preprocessing=preprocessing())
