"""The engine equals the reference on graphs: gates, pools, joins, shared values, random chains."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from subbyte.execute.native import Session, available_isas
from subbyte.ir import Graph, Value
from subbyte.quant import QParams
from tests.contract.agreement import (
    SETTINGS,
    assert_engine_equals,
    engine_outputs,
    expected_outputs,
    random_images,
)
from tests.contract.agreement import same as same_outputs
from tests.fuzz import graphs
from tests.fuzz.builder import Builder

CHANNELS = (1, 3, 16, 31, 32, 33, 65, 130)


def builder(seed: int, shape: tuple[int, ...]) -> Builder:
    return Builder(random.Random(seed), shape)


def gate_of(b: Builder, x: str, bits: int = 8) -> str:
    pooled = b.add("global_avg_pool", [x], b.grid(8, -1.0, 1.0))
    return b.qconv(b.qconv(pooled, 3, act="silu", bits=bits), b.shape(x)[2], act="sigmoid", bits=bits)


def operations(graph: Graph) -> list[str]:
    return [row["op"] for row in Session(graph).plan()]


@pytest.mark.parametrize("channels", CHANNELS)
def test_gate_is_fused_into_the_projection(channels: int) -> None:
    for height, width, bits, out_bits in ((7, 7, 8, 8), (1, 1, 4, 4), (9, 13, 2, 8), (3, 50, 4, 3)):
        b = builder(channels, (height, width, channels))
        x = b.quantize("image", out_bits)
        gated = b.add("mul", [x, gate_of(b, x, bits)], b.grid(out_bits, -1.5, 1.5))
        graph = b.finish(b.qconv(gated, 2 * channels + 1, bits=bits, residual=None))
        assert "mul" not in operations(graph)
        assert_engine_equals(graph, random_images(graph, 2, channels))


def channel_scales(count: int, rng: random.Random) -> np.ndarray:
    return np.array([2.0 ** rng.uniform(-3, 3) for _ in range(count)], np.float32)


@pytest.mark.parametrize("channels", CHANNELS)
def test_gate_with_a_factor_for_each_channel(channels: int) -> None:
    """Applied by the projection, layer by layer and in regions, and as a step of its own."""
    for height, width, bits, out_bits in ((7, 7, 8, 8), (1, 1, 4, 4), (9, 13, 2, 8), (3, 50, 4, 3)):
        b = builder(channels, (height, width, channels))
        x = b.quantize("image", out_bits)
        params = {"channel_scale": channel_scales(channels, b.rng)}
        gated = b.add("mul", [x, gate_of(b, x, bits)], b.grid(out_bits, -1.5, 1.5), None, params)
        alone = b.add("mul", [x, gate_of(b, x, bits)], b.grid(out_bits, -1.5, 1.5), None, params)
        graph = b.finish(b.qconv(gated, 2 * channels + 1, bits=bits), alone)
        assert operations(graph).count("mul") == 1
        assert_engine_equals(graph, random_images(graph, 2, channels))


def test_factors_of_one_change_nothing() -> None:
    b = builder(3, (6, 5, 37))
    x, plain = b.quantize("image"), b.grid()
    gate = gate_of(b, x)
    ones = {"channel_scale": np.ones(37, np.float32)}
    graph = b.finish(b.add("mul", [x, gate], plain), b.add("mul", [x, gate], plain, None, ones))
    without, with_ones = engine_outputs(Session(graph), random_images(graph, 3, 1))
    assert np.array_equal(without, with_ones)


def gated_twice(b: Builder, x: str, gated: str) -> list[str]:
    return [b.qconv(gated, 5), b.qconv(gated, 6, act="silu")]


def gated_and_returned(b: Builder, x: str, gated: str) -> list[str]:
    return [b.qconv(gated, 5), gated]


def gated_and_residual(b: Builder, x: str, gated: str) -> list[str]:
    return [b.qconv(gated, b.shape(x)[2], residual=gated)]


def gated_as_residual_only(b: Builder, x: str, gated: str) -> list[str]:
    return [b.qconv(x, b.shape(x)[2], residual=gated)]


def gated_then_wide(b: Builder, x: str, gated: str) -> list[str]:
    return [b.qconv(gated, 9, (3, 3))]


def gated_then_strided(b: Builder, x: str, gated: str) -> list[str]:
    return [b.qconv(gated, 9, stride=2)]


def gated_then_grouped(b: Builder, x: str, gated: str) -> list[str]:
    return [b.qconv(gated, b.shape(x)[2], groups=b.shape(x)[2])]


def gated_then_gated(b: Builder, x: str, gated: str) -> list[str]:
    return [b.qconv(b.add("mul", [gated, gate_of(b, x)], b.grid()), 4)]


@pytest.mark.parametrize(
    "use",
    [
        gated_twice,
        gated_and_returned,
        gated_and_residual,
        gated_as_residual_only,
        gated_then_wide,
        gated_then_strided,
        gated_then_grouped,
        gated_then_gated,
    ],
)
def test_gate_that_cannot_be_fused(use: Callable[[Builder, str, str], list[str]]) -> None:
    for channels in (3, 37, 64):
        b = builder(channels, (6, 5, channels))
        x = b.qconv(b.quantize("image"), channels, (3, 3), act="silu")
        graph = b.finish(*use(b, x, b.add("mul", [x, gate_of(b, x)], b.grid())))
        assert "mul" in operations(graph)
        assert_engine_equals(graph, random_images(graph, 2, channels))


@pytest.mark.parametrize("channels", [3, 40])
def test_fused_gate_with_residual_and_late_operands(channels: int) -> None:
    """The gate is computed long before the projection that applies it, with other values in between."""
    b = builder(channels, (8, 6, channels))
    first = b.quantize("image")
    gate = gate_of(b, first)
    x = b.qconv(first, channels, (5, 5), act="silu")
    other = b.qconv(b.qconv(x, 3 * channels, act="relu"), channels, (3, 3), groups=channels)
    gated = b.add("mul", [x, gate], b.grid())
    between = b.qconv(other, 2 * channels, (3, 3))
    y = b.qconv(gated, channels, bits=4, residual=other)
    graph = b.finish(y, b.qconv(between, 3))
    assert operations(graph).count("mul") == 0
    assert_engine_equals(graph, random_images(graph, 2, channels))


def test_gate_factors_reach_the_ends_of_16_bits() -> None:
    """Output grids as fine as the verifier allows: factors up to 32760, most products saturate."""
    for zero in (0, 100, 255):
        b = builder(zero, (5, 4, 35))
        x = b.quantize("image")
        source, gate = b.values[x].q, QParams(float(np.float32(0.01)), zero, 8)
        assert source is not None
        g = b.add("global_avg_pool", [x], gate)
        largest = max(zero, 255 - zero)
        finest = QParams(float(np.float32(source.scale * gate.scale * 256 * largest / 32760)), 90, 8)
        y = b.add("mul", [x, g], finest)
        graph = b.finish(y, b.qconv(b.add("mul", [x, g], finest), 8))
        assert_engine_equals(graph, random_images(graph, 2, zero, 4.0))


@pytest.mark.parametrize("channels", CHANNELS)
def test_add(channels: int) -> None:
    for bits in (8, 4, 2):
        b = builder(channels, (4, 7, channels))
        x = b.quantize("image")
        y = b.qactivation(x, "tanh", bits)
        graph = b.finish(b.add("add", [x, y], b.grid(bits)), b.add("add", [y, y], b.grid(3)))
        assert_engine_equals(graph, random_images(graph, 2, channels, 2.0))


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 7), (1, 90), (33, 2)])
def test_global_avg_pool(channels: int, height: int, width: int) -> None:
    b = builder(channels, (height, width, channels))
    x = b.quantize("image")
    wide, fine = b.add("global_avg_pool", [x], b.grid(4)), b.add("global_avg_pool", [x], b.grid(8, -0.3, 0.2))
    graph = b.finish(wide, fine)
    assert_engine_equals(graph, random_images(graph, 2, channels))


@pytest.mark.parametrize(
    ("kernel", "stride", "pad"),
    [
        ((1, 1), (1, 1), (0, 0, 0, 0)),
        ((2, 2), (2, 2), (0, 0, 0, 0)),
        ((3, 3), (2, 2), (1, 1, 1, 1)),
        ((3, 2), (1, 3), (2, 0, 0, 1)),
        ((5, 5), (1, 1), (4, 4, 4, 4)),
    ],
)
def test_max_pool(kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, ...]) -> None:
    for channels in (1, 3, 33, 64):
        b = builder(channels, (6, 5, channels))
        attrs = {"kernel": kernel, "stride": stride, "pad": pad}
        x = b.quantize("image", 4)
        pooled = b.add("max_pool2d", [x], b.values[x].q, attrs)
        real = b.add("max_pool2d", ["image"], None, attrs)
        graph = b.finish(pooled, b.qconv(pooled, 3, (3, 3)), real)
        assert_engine_equals(graph, random_images(graph, 2, channels))


def test_concat_and_flatten() -> None:
    b = builder(1, (3, 5, 7))
    x = b.quantize("image")
    y = b.max_pool(x, 3, 1)
    joined = b.concat(x, y, x, b.max_pool(y, 3, 1))
    wide = b.qconv(joined, 6, (3, 3))  # a halo around the joined value
    flat = b.flatten(joined)
    real = b.concat("image", b.add("dequantize", [x]), "image")
    graph = b.finish(joined, wide, b.qlinear(flat, 9), flat, real, b.flatten(real), b.flatten("image"))
    assert_engine_equals(graph, random_images(graph, 2, 1))


def test_quantize_rounds_like_the_reference() -> None:
    """Images whose numbers lie half way between codes, or one rounding away from there; and the largest."""
    rng = np.random.default_rng(11)
    for channels in (1, 3, 19):
        b = builder(channels, (9, 40, channels))
        scale = float(np.float32(rng.uniform(0.001, 3.0)))
        zero = int(rng.integers(0, 256))
        graph = b.finish(b.add("quantize", ["image"], QParams(scale, zero, 8)))
        ties = (rng.integers(-300, 300, (3, 9, 40, channels)) + 0.5) * np.float64(scale)
        x = ties.astype(np.float32)
        x[1] = np.nextafter(x[1], np.float32(rng.choice([-1e9, 1e9])))
        x[2].flat[::7] = np.finfo(np.float32).max
        x[2].flat[1::7] = np.finfo(np.float32).min
        assert_engine_equals(graph, x)


def test_conversions_in_the_middle() -> None:
    """dequantize and quantize between codes: exact, so everything after them is equal too."""
    b = builder(2, (6, 5, 13))
    x = b.qconv(b.quantize("image"), 21, (3, 3), act="silu")
    real = b.add("dequantize", [x])
    again = b.add("quantize", [b.add("add", [real, real])], b.grid(4, -3.0, 5.0))
    y = b.qconv(again, 10, (3, 3), bits=4)
    graph = b.finish(real, y, b.add("quantize", ["image"], QParams(0.125, 255, 8)))
    assert_engine_equals(graph, random_images(graph, 2, 2))


def test_values_with_several_readers_share_one_halo() -> None:
    """One value read through windows with every kind of padding, by gates, pools and joins as well."""
    b = builder(3, (7, 6, 18))
    x = b.qconv(b.quantize("image"), 18, (3, 3), act="hard_swish")
    outputs = [
        b.qconv(x, 5, (3, 3), pad=(1, 1, 1, 1)),
        b.qconv(x, 6, (5, 5), pad=(4, 0, 1, 3)),
        b.qconv(x, 7, (1, 3), pad=(0, 0, 2, 0)),
        b.qconv(x, 18, (7, 7), groups=18, pad=(3, 3, 3, 3)),
        b.qconv(x, 18, (3, 3), (2, 2), groups=18, pad=(0, 2, 0, 2)),
        b.qconv(x, 9, stride=2),
        b.qconv(x, 18, (3, 3), groups=9, residual=x),
        b.max_pool(x, 3, 2),
        b.concat(x, x),
        b.qconv(b.squeeze_excite(x, 4), 11, bits=4),
        b.flatten(x),
        x,
    ]
    graph = b.finish(*outputs)
    assert_engine_equals(graph, random_images(graph, 3, 3))


def test_the_input_is_read_twice_and_by_every_kind_of_step() -> None:
    b = builder(4, (5, 6, 3))
    a, c = b.quantize("image", 8), b.quantize("image", 4)
    real = b.max_pool("image", 2, 1)
    graph = b.finish(b.qconv(a, 4, (3, 3)), b.qconv(c, 4, (5, 5)), b.add("add", [a, c], b.grid()), real)
    assert_engine_equals(graph, random_images(graph, 2, 4))


def test_a_vector_as_input() -> None:
    b = Builder(random.Random(5), (37,))
    graph = b.finish(b.qlinear(b.quantize("image"), 10, 4))
    assert_engine_equals(graph, random_images(graph, 3, 5))


def test_dead_and_long_lived_values_do_not_disturb_the_arena() -> None:
    b = builder(6, (9, 9, 8))
    x = kept = b.qconv(b.quantize("image"), 24, (3, 3), act="silu")
    for step in range(6):
        b.qconv(x, 7, (3, 3))  # read by nobody
        x = b.qconv(x, 24, (3, 3), act="relu", bits=(8, 4, 2)[step % 3])
    graph = b.finish(b.add("add", [x, kept], b.grid()))
    assert_engine_equals(graph, random_images(graph, 2, 6))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_every_quantized_operation_at_once(bits: int) -> None:
    graph = graphs.quantized(random.Random(bits), bits)
    assert_engine_equals(graph, random_images(graph, 3, bits))


@pytest.mark.parametrize("make", [graphs.narrow, graphs.middle, graphs.moved, graphs.computed])
def test_whole_graphs(make: Callable[[random.Random], Graph]) -> None:
    graph = make(random.Random(1))
    assert_engine_equals(graph, random_images(graph, 2, 1))


@pytest.mark.parametrize("block", range(8))
def test_random_graphs(block: int) -> None:
    """Random chains; every value that may be an output is one in half of the cases."""
    tried = 0
    for seed in range(100 * block, 100 * block + 100):
        rng = random.Random(seed)
        graph = graphs.random_graph(rng)
        if any(node.op != "quantize" and graph.value(node.inputs[0]).q is None for node in graph.nodes):
            continue  # float32 layers: tests/contract/test_engine_float.py
        if rng.random() < 0.5:
            graph = replace(graph, outputs=tuple(node.output for node in graph.nodes))
        isa, (threads, above) = rng.choice(available_isas()), rng.choice(SETTINGS)
        x = random_images(graph, 2, seed)
        session = Session(graph, isa=isa, threads=threads, depth_first_above=above)
        equal = same_outputs(engine_outputs(session, x), expected_outputs(graph, x))
        assert equal, f"seed {seed}, {isa}, {threads} threads, depth first above {above}"
        tried += 1
    assert tried > 50


def test_batches_equal_their_images() -> None:
    graph = graphs.middle(random.Random(9))
    x = random_images(graph, 5, 9)
    for isa in available_isas():
        session = Session(graph, isa=isa, threads=2)
        whole = session.run(x)
        assert np.array_equal(whole, np.concatenate([session.run(image) for image in x]))
        assert np.array_equal(whole, expected_outputs(graph, x)[0])


def test_grids_may_differ_wildly() -> None:
    """Scales up to 2**39 apart, about as far as the verifier lets them: saturation, not overflow."""
    b = builder(10, (3, 4, 20))
    x = b.add("quantize", ["image"], QParams(2.0**-20, 128, 8))
    coarse = b.add("add", [x, x], QParams(2.0**19, 0, 8))
    fine = b.add("add", [x, x], QParams(2.0**-39, 3, 4))
    pooled = b.add("global_avg_pool", [x], QParams(2.0**-39, 200, 8))
    y = b.qconv(x, 20, residual=x)
    b.values[y] = Value(y, b.shape(y), QParams(2.0**-30, 77, 8))
    graph = b.finish(coarse, fine, pooled, y)
    assert_engine_equals(graph, random_images(graph, 2, 10))
