"""Layers that run row tile by row tile give the same numbers as layers that run one after another."""

from __future__ import annotations

import random

import pytest

from subbyte.execute.native import Session, available_isas
from subbyte.ir import Graph
from subbyte.passes.dequantize import dequantize_graph
from tests.contract.agreement import (
    SANITIZED,
    SETTINGS,
    assert_engine_equals,
    engine_outputs,
    expected_outputs,
    random_images,
    same,
)
from tests.fuzz.builder import Builder

ACTS = ("none", "relu", "silu")


def convolution(b: Builder, x: str) -> str:
    """A random window, also with strides larger than it and with padding on any side."""
    rng, (height, width, channels) = b.rng, b.shape(x)
    kernel = (rng.randint(1, 5), rng.randint(1, 3))
    top, bottom, left, right = (rng.randint(0, kernel[i // 2] - 1) for i in range(4))
    pad = top, bottom, left, right
    if height + pad[0] + pad[1] < kernel[0] or width + pad[2] + pad[3] < kernel[1]:
        kernel, pad = (1, 1), (0, 0, 0, 0)
    stride = (rng.choice([1, 1, 1, 2, 3, 7]), rng.choice([1, 1, 2]))
    groups = channels if rng.random() < 0.4 else 1
    outputs = channels if groups > 1 else rng.randint(1, 9)
    return b.qconv(x, outputs, kernel, stride, groups, rng.choice(ACTS), rng.choice([8, 4]), pad=pad)


def chain(seed: int) -> Graph:
    """Convolutions, residuals, sums and activations over one image: values may be read much later."""
    rng = random.Random(seed)
    shape = (rng.randint(1, 70), rng.choice([1, 2, 5, 19, 75]), rng.choice([1, 3, 4]))
    b = Builder(rng, shape)
    made = [b.quantize("image")]
    for _ in range(rng.randint(2, 9)):
        x = made[-1]
        alike = [v for v in made if b.shape(v) == b.shape(x)]
        kind = rng.randrange(6)
        if kind == 0:
            x = b.add("add", [x, rng.choice(alike)], b.grid())
        elif kind == 1:
            x = b.qconv(x, b.shape(x)[2], (3, 3), bits=4, residual=rng.choice(alike))
        elif kind == 2:
            x = b.qactivation(x, "tanh")
        else:
            x = convolution(b, rng.choice(made) if rng.random() < 0.2 else x)
        made.append(x)
    outputs = [made[-1]] if rng.random() < 0.5 else [b.add("global_avg_pool", [made[-1]], b.grid())]
    return b.finish(*outputs, *([made[1]] if rng.random() < 0.2 and made[1] not in outputs else []))


@pytest.mark.parametrize("block", range(10))
def test_random_chains(block: int) -> None:
    banded = 0
    for seed in range(40 * block, 40 * block + 40):
        graph, rng = chain(seed), random.Random(seed)
        x = random_images(graph, 1, seed)
        expected = expected_outputs(graph, x)
        for threads, above in rng.sample(SETTINGS, 2):
            isa = rng.choice(available_isas())
            session = Session(graph, isa=isa, threads=threads, depth_first_above=above)
            banded += any(row["region"] >= 0 for row in session.plan())
            equal = same(engine_outputs(session, x), expected)
            assert equal, f"seed {seed}, {isa}, {threads} threads, depth first above {above}"
    assert banded > 10


def test_random_chains_in_float32() -> None:
    """The sums of a pixel are the same ones in the same order, so that numbers are equal, too."""
    banded = 0
    for seed in range(100):
        graph, rng = dequantize_graph(chain(seed)), random.Random(seed)
        x = random_images(graph, 1, seed)
        for threads, above in rng.sample(SETTINGS, 2):
            isa = rng.choice(available_isas())
            session = Session(graph, isa=isa, threads=threads, depth_first_above=above)
            banded += any(row["region"] >= 0 for row in session.plan())
            whole = Session(graph, isa=isa, threads=threads, depth_first_above=None)
            equal = same(engine_outputs(session, x), engine_outputs(whole, x))
            assert equal, f"seed {seed}, {isa}, {threads} threads, depth first above {above}"
    assert banded > 10


def test_a_float32_region_begins_behind_codes() -> None:
    """Convolutions that read codes make float32 numbers as a whole, whatever is behind them."""
    b = Builder(random.Random(5), (40, 30, 3))
    x = b.qconv(b.quantize("image"), 8, (3, 3), act="relu")
    y = b.qconv(x, 12, (3, 3), out_bits=None)
    graph = b.finish(b.add("global_avg_pool", [b.fconv(b.fconv(y, 16), 4)]))
    whole, banded = (Session(graph, depth_first_above=above) for above in (None, 0))
    regions = {row["name"]: row["region"] for row in banded.plan()}
    made = {node.name: graph.value(node.inputs[0]).q is None for node in graph.nodes}
    assert any(region >= 0 and made[name] for name, region in regions.items())
    images = random_images(graph, 2, 5)
    assert same(engine_outputs(banded, images), engine_outputs(whole, images))


@pytest.mark.parametrize("width", [1, 30, 90])
def test_bottlenecks(width: int) -> None:
    """The start of a network: what it is made for. Residuals within a region, strides, both paddings."""
    b = Builder(random.Random(width), (61, width, 3))
    x = b.qconv(b.quantize("image"), 8, (3, 3), 2, act="silu")
    y = b.qconv(b.qconv(x, 16, (3, 3), act="silu", bits=4), 8, residual=x)
    z = b.qconv(b.qconv(y, 24, act="silu"), 24, (5, 5), (2, 1), 24, "silu", pad=(1, 2, 2, 2))
    z = b.qconv(z, 12, bits=2)
    graph = b.finish(b.qconv(z, 12, (3, 3), groups=12, residual=z), b.add("global_avg_pool", [z], b.grid()))
    assert_engine_equals(graph, random_images(graph, 2, width))


def test_memory_is_saved_where_bands_run() -> None:
    b = Builder(random.Random(1), (120, 40, 3))
    x = b.qconv(b.quantize("image"), 32, (3, 3), act="relu")
    graph = b.finish(b.add("global_avg_pool", [b.qconv(x, 4, (3, 3), 4)], b.grid()))
    whole, banded = (Session(graph, depth_first_above=above) for above in (None, 0))
    assert SANITIZED or banded.arena_bytes < whole.arena_bytes / 2
    assert all(row["region"] < 0 for row in whole.plan())
    assert_engine_equals(graph, random_images(graph, 1, 1))


def test_long_regions_are_cut() -> None:
    """Twelve bottlenecks, 8 channels between them and 48 inside: a few rows of each are more than two narrow
    tensors."""
    b = Builder(random.Random(3), (200, 9, 3))
    x = b.qconv(b.quantize("image"), 8, (3, 3), act="relu")
    for _ in range(12):
        x = b.qconv(b.qconv(x, 48, (3, 3), act="relu"), 8, residual=x)
    graph = b.finish(b.add("global_avg_pool", [x], b.grid()))
    # AVX2 without VNNI runs such layers by Winograd's algorithm, as a whole: no region is long there
    session = Session(graph, depth_first_above=4096, isa="portable")
    assert len({row["region"] for row in session.plan() if row["region"] >= 0}) > 1
    narrow = 202 * 11 * 8  # with its halo
    assert SANITIZED or session.arena_bytes < 3 * narrow
    assert_engine_equals(graph, random_images(graph, 1, 3))


def test_strides_that_multiply_beyond_any_number() -> None:
    """28 layers of stride 60000 on what is left of an image: the rows of a row tile overflow 32 bits."""
    b = Builder(random.Random(2), (300, 300, 4))
    first = b.quantize("image")
    x = b.qconv(first, 4, stride=60000)
    for _ in range(28):
        x = b.qconv(x, 4, stride=60000)
    graph = b.finish(b.qconv(first, 4, stride=300, residual=x))
    assert_engine_equals(graph, random_images(graph, 1, 2))
