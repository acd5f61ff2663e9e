"""3 x 3 convolutions made by Winograd's way equal the reference, where an instruction set has it (AVX2)."""

from __future__ import annotations

import random

import numpy as np
import pytest

from subbyte.execute.native import Session, available_isas
from subbyte.ir import Graph
from tests.contract.agreement import assert_engine_equals, random_images
from tests.fuzz.builder import Builder

Pads = tuple[int, int, int, int]

#: Input (H, W, C), output channels, pad (t, b, l, r): odd and even sizes, channels that fill no vector.
SHAPES = (
    ((4, 4, 8), 8, (1, 1, 1, 1)),
    ((5, 13, 17), 31, (1, 1, 1, 1)),
    ((8, 7, 33), 48, (2, 0, 1, 2)),
    ((7, 9, 24), 24, (0, 0, 0, 0)),
    ((6, 6, 9), 16, (2, 2, 2, 2)),
    ((3, 120, 12), 20, (1, 1, 1, 1)),
    ((17, 5, 130), 9, (0, 1, 1, 0)),
)


def graph_of(
    shape: tuple[int, int, int], channels: int, pad: Pads, act: str, residual: bool, real: bool
) -> Graph:
    b = Builder(random.Random(f"{shape} {channels} {act} {residual} {real}"), shape)
    x = b.qconv(b.quantize("image"), shape[2], act="silu")
    first = b.qconv(x, channels, (3, 3), act=act, pad=pad, codebook=True, out_bits=None if real else 8)
    if residual:  # a second one, onto the first
        return b.finish(b.qconv(first, channels, (3, 3), residual=first), first)
    return b.finish(first)


@pytest.mark.parametrize(("shape", "channels", "pad"), SHAPES)
@pytest.mark.parametrize("kind", ["silu", "relu6", "none", "residual", "real"])
def test_winograd_equals_the_reference(
    shape: tuple[int, int, int], channels: int, pad: Pads, kind: str
) -> None:
    act = kind if kind in ("silu", "relu6") else "none"
    graph = graph_of(shape, channels, pad, act, kind == "residual", kind == "real")
    assert_engine_equals(graph, random_images(graph, 2, 7))
    if "avx2" in available_isas():
        kernels = [row["kernel"] for row in Session(graph, isa="avx2").plan()]
        assert sum("winograd" in kernel for kernel in kernels) == (2 if kind == "residual" else 1), kernels


def test_the_largest_sums_do_not_wrap() -> None:
    """All weights at one end of their range, all activations at the top of theirs."""
    b = Builder(random.Random(1), (6, 6, 1400))
    book = np.full(256, -128, np.int8)
    graph = b.finish(b.qconv(b.quantize("image"), 8, (3, 3), pad=(1, 1, 1, 1), codebook=book))
    assert_engine_equals(graph, np.full((1, 6, 6, 1400), 100.0, np.float32))


@pytest.mark.parametrize("bits", [4, 2])
def test_narrow_weights_stay_narrow(bits: int) -> None:
    b = Builder(random.Random(bits), (8, 8, 16))
    graph = b.finish(b.qconv(b.quantize("image"), 16, (3, 3), pad=(1, 1, 1, 1), bits=bits))
    for isa in available_isas():
        executed = [row["executed_weights"] for row in Session(graph, isa=isa).plan() if row["macs"]]
        assert executed == [f"int{bits}"]
