"""The engine's quantized convolutions equal the reference on awkward shapes, on every instruction set."""

from __future__ import annotations

import random

import numpy as np
import pytest

from subbyte.execute import reference
from subbyte.ir import ACTIVATIONS, Graph, Node, Value, verify
from subbyte.quant import QParams, QTensor
from subbyte.quant.format import INT8
from tests.contract.agreement import assert_engine_equals, random_images
from tests.fuzz import graphs
from tests.fuzz.builder import PARAMETRIC, Builder

Pair = tuple[int, int]

#: Input (H, W, C), output channels, kernel, stride, pad (t, b, l, r).
DENSE = (
    ((1, 1, 1), 1, (1, 1), (1, 1), (0, 0, 0, 0)),
    ((1, 1, 3), 17, (1, 1), (1, 1), (0, 0, 0, 0)),
    ((1, 1, 33), 130, (1, 1), (1, 1), (0, 0, 0, 0)),
    ((5, 7, 5), 3, (1, 1), (1, 1), (0, 0, 0, 0)),
    ((7, 5, 17), 65, (1, 1), (1, 1), (0, 0, 0, 0)),
    ((9, 11, 31), 33, (1, 1), (2, 2), (0, 0, 0, 0)),
    ((4, 3, 130), 31, (1, 1), (1, 1), (0, 0, 0, 0)),
    ((3, 50, 64), 64, (1, 1), (1, 1), (0, 0, 0, 0)),
    ((11, 9, 3), 32, (3, 3), (2, 2), (0, 1, 0, 1)),
    ((6, 6, 1), 5, (3, 3), (1, 1), (1, 1, 1, 1)),
    ((5, 13, 17), 31, (3, 3), (1, 1), (1, 1, 1, 1)),
    ((8, 7, 33), 48, (3, 3), (3, 2), (2, 0, 1, 2)),
    ((2, 2, 5), 16, (3, 3), (1, 1), (2, 2, 2, 2)),
    ((7, 7, 3), 9, (5, 5), (1, 1), (2, 2, 2, 2)),
    ((10, 8, 6), 20, (5, 5), (3, 3), (4, 1, 0, 3)),
    ((4, 9, 7), 15, (1, 3), (1, 1), (0, 0, 1, 1)),
    ((9, 4, 7), 15, (3, 1), (1, 2), (1, 1, 0, 0)),
    ((6, 5, 2), 80, (2, 2), (2, 1), (0, 0, 0, 0)),
)

#: Input (H, W, C), output channels, kernel, stride, groups, pad.
GROUPED = (
    ((5, 5, 6), 4, (3, 3), (1, 1), 2, (1, 1, 1, 1)),
    ((4, 6, 15), 9, (1, 1), (1, 1), 3, (0, 0, 0, 0)),
    ((5, 4, 34), 68, (3, 3), (2, 2), 2, (0, 1, 1, 0)),
    ((6, 3, 10), 20, (3, 1), (1, 1), 10, (1, 1, 0, 0)),
    ((3, 5, 5), 35, (5, 5), (1, 1), 5, (2, 2, 2, 2)),
    ((1, 1, 12), 12, (1, 1), (1, 1), 4, (0, 0, 0, 0)),
    ((10, 9, 6), 6, (9, 9), (1, 1), 2, (4, 4, 4, 4)),
    ((16, 17, 4), 8, (16, 16), (2, 1), 4, (3, 0, 5, 4)),
)

#: Input (H, W, C), kernel, stride, pad.
DEPTHWISE = (
    ((1, 1, 2), (1, 1), (1, 1), (0, 0, 0, 0)),
    ((5, 7, 3), (3, 3), (1, 1), (1, 1, 1, 1)),
    ((6, 6, 5), (3, 3), (2, 2), (0, 1, 0, 1)),
    ((7, 4, 17), (3, 3), (2, 1), (2, 2, 2, 2)),
    ((3, 13, 31), (5, 5), (1, 1), (2, 2, 2, 2)),
    ((9, 8, 33), (5, 5), (2, 2), (1, 2, 1, 2)),
    ((8, 9, 65), (3, 3), (1, 2), (1, 0, 0, 1)),
    ((7, 7, 130), (3, 3), (2, 2), (1, 1, 1, 1)),
    ((7, 10, 64), (7, 7), (1, 1), (3, 3, 3, 3)),
    ((9, 7, 20), (7, 7), (2, 2), (3, 2, 2, 3)),
    ((4, 5, 70), (1, 3), (1, 1), (0, 0, 1, 1)),
    ((5, 4, 24), (4, 2), (1, 3), (3, 0, 1, 0)),
    ((2, 2, 9), (5, 5), (1, 1), (4, 4, 4, 4)),
    ((4, 11, 18), (2, 4), (3, 1), (0, 1, 3, 0)),
)


def code_book(kind: str, bits: int, seed: int) -> bool | np.ndarray:
    """plain: two's complement; zero, no zero: levels over the whole of int8, with or without 0."""
    if kind == "plain" or bits == 8:
        return False
    rng = np.random.default_rng(seed)
    others = np.concatenate([np.arange(-127, 0), np.arange(1, 127)])
    levels = rng.choice(others, (1 << bits) - 2, replace=False)
    levels = rng.permutation(np.append(levels, [-128, 0 if kind == "zero" else 127]))
    return levels.astype(np.int8)


def assert_spread(graph: Graph, x: np.ndarray) -> None:
    """The first output's codes differ enough for an error to show."""
    codes = reference.run(graph, x)[graph.outputs[0]]
    assert codes.size < 20 or len(np.unique(codes)) > 5


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("case", range(len(DENSE)))
def test_dense(case: int, bits: int) -> None:
    shape, channels, kernel, stride, pad = DENSE[case]
    for number, kind in enumerate(("plain", "zero", "no zero")[: 1 if bits == 8 else 3]):
        seed = 1000 * case + 10 * bits + number
        b = Builder(random.Random(seed), shape)
        act = ACTIVATIONS[(case + number) % len(ACTIVATIONS)]
        narrow = (8, 4, 2)[(case + number) % 3]
        x = b.quantize("image", (8, 8, 4, 2)[(case + number) % 4])
        book = code_book(kind, bits, seed)
        y = b.qconv(x, channels, kernel, stride, act=act, bits=bits, out_bits=narrow, codebook=book, pad=pad)
        z = b.qconv(x, channels, kernel, stride, bits=bits, codebook=book, pad=pad)
        real = b.qconv(x, channels, kernel, stride, bits=bits, out_bits=None, codebook=book, pad=pad)
        graph = b.finish(z, y, real)
        images = random_images(graph, 2, seed)
        assert_spread(graph, images)
        assert_engine_equals(graph, images)


@pytest.mark.parametrize("case", range(len(GROUPED)))
def test_grouped(case: int) -> None:
    shape, channels, kernel, stride, groups, pad = GROUPED[case]
    for bits, kind in (
        (8, "plain"),
        (4, "plain"),
        (3, "zero"),
        (2, "no zero"),
        (3, "no zero"),
        (4, "no zero"),
    ):
        seed = 1000 * case + 10 * bits + len(kind)
        b = Builder(random.Random(seed), shape)
        act = ACTIVATIONS[(case + bits) % len(ACTIVATIONS)]
        book = code_book(kind, bits, seed)
        y = b.qconv(b.quantize("image"), channels, kernel, stride, groups, act, bits, 8, book, pad=pad)
        z = b.qconv(y, channels, (1, 1), 1, groups if channels % groups == 0 else 1, bits=bits, residual=y)
        graph = b.finish(z, y)
        images = random_images(graph, 2, seed)
        assert_spread(graph, images)
        assert_engine_equals(graph, images)


@pytest.mark.parametrize("case", range(len(DEPTHWISE)))
def test_depthwise(case: int) -> None:
    shape, kernel, stride, pad = DEPTHWISE[case]
    for number, (bits, kind) in enumerate(
        ((8, "plain"), (4, "zero"), (3, "no zero"), (2, "plain"), (4, "no zero"))
    ):
        seed = 1000 * case + 10 * bits + len(kind)
        b = Builder(random.Random(seed), shape)
        act = ACTIVATIONS[(case + number) % len(ACTIVATIONS)]
        x, book, channels = b.quantize("image"), code_book(kind, bits, seed), shape[2]
        clamped = b.qconv(x, channels, kernel, stride, channels, "none", bits, 8, book, pad=pad)
        active = b.qconv(x, channels, kernel, stride, channels, act, bits, (4, 8)[number % 2], book, pad=pad)
        real = b.qconv(x, channels, kernel, stride, channels, "none", bits, None, book, pad=pad)
        graph = b.finish(clamped, active, real)
        images = random_images(graph, 2, seed)
        assert_spread(graph, images)
        assert_engine_equals(graph, images)


@pytest.mark.parametrize(
    ("bits", "channels"), [(8, 803), (8, 1000), (4, 1601), (4, 1537), (3, 1601), (2, 3101)]
)
def test_sums_of_thousands(bits: int, channels: int) -> None:
    """Long enough for the engine to work through them in pieces; with a gate and with a residual as well."""
    b = Builder(random.Random(channels), (4, 5, channels))
    x = b.quantize("image")
    gated = b.add("mul", [x, b.add("global_avg_pool", [x], b.grid(8, -0.3, 0.3))], b.grid(8, -0.5, 0.5))
    small = b.qconv(x, 70, bits=bits, act="silu", codebook=code_book("zero", bits, channels))
    graph = b.finish(b.qconv(gated, 70, bits=bits, residual=small), b.qconv(x, 33, bits=bits, out_bits=None))
    images = random_images(graph, 1, channels)
    assert_spread(graph, images)
    assert_engine_equals(graph, images)


@pytest.mark.parametrize("act", [*ACTIVATIONS, *PARAMETRIC])
@pytest.mark.parametrize("channels", [3, 20, 64, 67])
def test_every_activation(act: str, channels: int) -> None:
    b = Builder(random.Random(channels), (5, 6, 4))
    x = b.qconv(b.quantize("image"), channels, (3, 3), act=act, bits=4)
    y = b.qconv(x, channels, (3, 3), groups=channels, act=act)
    z = b.qactivation(y, act, 4)
    graph = b.finish(x, y, z)
    assert_engine_equals(graph, random_images(graph, 2, channels, 2.0))


@pytest.mark.parametrize("act", ["none", "relu", "relu6"])
@pytest.mark.parametrize("width", [2, 3, 4, 8])
def test_clamps_on_every_activation_width(act: str, width: int) -> None:
    """Six lies inside the grid (scale above 6 / qmax) for relu6, so that its upper clamp is at work."""
    channels = 37
    b = Builder(random.Random(width), (6, 5, channels))
    x = b.quantize("image", width)
    y = b.qconv(x, channels, bits=4, act=act, out_bits=width)
    wide = QParams(float(np.float32(9.0 / ((1 << width) - 1))), 1, width)
    b.values[y] = Value(y, b.shape(y), wide)
    z = b.qconv(x, channels, (3, 3), groups=channels, act=act, out_bits=width)
    b.values[z] = Value(z, b.shape(z), wide)
    graph = b.finish(y, z)
    assert_engine_equals(graph, random_images(graph, 2, width, 8.0))


@pytest.mark.parametrize("features", [1, 3, 17, 64, 130])
@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_linear(features: int, bits: int) -> None:
    for inputs in (1, 5, 33, 67):
        b = Builder(random.Random(features), (1, 1, inputs))
        flat = b.flatten(b.quantize("image", 8 if bits > 2 else 4))
        hidden = b.qlinear(flat, features, bits, "silu", real=False)
        graph = b.finish(b.qlinear(hidden, features, bits), hidden, b.qlinear(flat, 7, bits, real=False))
        assert_engine_equals(graph, random_images(graph, 3, inputs))


@pytest.mark.parametrize("channels", [1, 3, 16, 33, 65])
def test_residual(channels: int) -> None:
    """The residual's grid differs from the output's, has other bits, and the codes reach both ends."""
    for bits, residual_bits, out_bits in ((8, 8, 8), (4, 4, 8), (3, 8, 8), (2, 8, 4)):
        b = Builder(random.Random(channels), (5, 9, channels))
        x = b.quantize("image")
        r = b.qactivation(x, "tanh", residual_bits)
        y = b.qconv(x, channels, bits=bits, residual=r, out_bits=out_bits)
        z = b.qconv(y, channels, (3, 3), bits=bits, residual=y)
        graph = b.finish(z, y)
        assert_engine_equals(graph, random_images(graph, 2, channels, 3.0))


@pytest.mark.parametrize("zero_point", [0, 1, 128, 255])
@pytest.mark.parametrize("sign", [-128, 127])
def test_extremes(zero_point: int, sign: int) -> None:
    """Largest weights times largest codes: no 16-bit saturation, sums beyond 2**24 rounded once."""
    channels, positions = 300, (3, 3, 300)
    x = QParams(0.5, zero_point, 8)
    shapes = {"dense": (70, 3, 3, channels), "depthwise": (channels, 3, 3, 1)}
    rng = np.random.default_rng(zero_point)
    images = x.dequantize(rng.choice(np.array([0, 255, 254], np.uint8), (2, *positions)))
    values = {"image": Value("image", positions), "x": Value("x", positions, x)}
    nodes = [Node("quantize", "quantize", ("image",), "x")]
    for name, shape in shapes.items():
        outputs, terms = shape[0], int(np.prod(shape[1:]))
        codes = np.full(shape, sign & 255, np.uint8)
        codes[::3] = rng.choice(np.array([127, 128, 129], np.uint8), codes[::3].shape)
        for target in ("codes", "real"):
            value = f"{name} {target}"
            # about 256 codes over the largest sum
            scale = np.full(outputs, 2.0**-6 / terms, np.float32) * rng.uniform(0.5, 1, outputs)
            weight = QTensor(codes, scale.astype(np.float32), INT8, np.arange(256).astype(np.int8))
            bias = rng.integers(-(2**28), 2**28, outputs, dtype=np.int32)
            params: dict[str, np.ndarray | QTensor] = {"weight": weight, "bias": bias}
            groups = channels if name == "depthwise" else 1
            attrs = {"stride": (1, 1), "pad": (1, 1, 1, 1), "act": "none", "groups": groups}
            nodes.append(Node(value, "conv2d", ("x",), value, attrs, params))
            values[value] = Value(value, (3, 3, outputs), QParams(1.0, 128, 8) if target == "codes" else None)
    graph = verify(Graph("image", tuple(n.output for n in nodes[1:]), values, tuple(nodes)))
    assert_engine_equals(graph, images)


@pytest.mark.parametrize("seed", range(40))
def test_strides_up_to_the_width(seed: int) -> None:
    """Every family with 1 to 70 channels, odd and even widths, the last window at the very end."""
    graph = graphs.strided(random.Random(seed))
    assert_engine_equals(graph, random_images(graph, 2, seed))


@pytest.mark.parametrize("seed", range(3))
def test_strides_across_the_widest_map(seed: int) -> None:
    graph = graphs.strided(random.Random(seed), 1 << 16)
    assert_engine_equals(graph, random_images(graph, 1, seed))


def test_the_largest_stride() -> None:
    b = Builder(random.Random(1), (1, 1 << 16, 2))
    x = b.quantize("image")
    kernel, stride, pad = (1, 16), (1, 1 << 16), (0, 0, 15, 15)
    graph = b.finish(b.qconv(x, 2, kernel, stride, 2, pad=pad), b.qconv(x, 3, kernel, stride, pad=pad))
    assert graph.value(graph.outputs[0]).shape == (1, 2, 2)
    assert_engine_equals(graph, random_images(graph, 1, 1))
