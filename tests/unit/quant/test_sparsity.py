"""Sparsity patterns: names, what they keep, sizes that a shape gives, and the way back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from subbyte.errors import ArtifactError, GraphError
from subbyte.quant import Format, QTensor, weight_format
from subbyte.quant.format import parse_format, pattern_named
from subbyte.quant.packing import packed_size
from subbyte.quant.pattern import DENSE
from subbyte.quant.sparsity import find_pattern

NAMES = (
    "2:4",
    "1:4",
    "1:2",
    "3:8",
    "5:7",
    "1:64",
    "33:64",
    "4x16:50",
    "4x16:1",
    "4x16:100",
    "1x1:33",
    "3x5:37",
)
SHAPES = ((3, 5), (1, 1), (17, 3, 3, 9), (40, 1, 1, 130), (33, 2, 1, 64))
CASES = pytest.mark.parametrize(("name", "shape"), list(itertools.product(NAMES, SHAPES)))


@pytest.mark.parametrize("name", NAMES)
def test_names(name: str) -> None:
    pattern = pattern_named(name)
    assert pattern.name == name
    assert pattern == find_pattern(name)
    for bits in (8, 4, 3, 2):
        format = Format("int", bits, pattern=pattern)
        assert str(format) == format.short == format.words == f"int{bits}+{name}"
        assert parse_format(str(format)) == weight_format(str(format)) == weight_format(format) == format
        assert format.of_weights
        assert format.dense == weight_format(bits)


@pytest.mark.parametrize(
    "name",
    [
        *("", ":", "0:4", "4:4", "5:4", "1:65", "01:4", "1:04", "1:4 ", "1:4:5", "-1:4", "٢:4", "2:4\n"),
        *("4x16", "4x16:", "4x16:0", "4x16:101", "4x16:050", "0x1:5", "257x1:5", "x1:5", "4x:5", "4x16:5.0"),
    ],
)
def test_what_no_pattern_is_called(name: str) -> None:
    assert find_pattern(name) is None
    with pytest.raises(GraphError, match="a pattern of weights is dense, N:M like 2:4, blocks"):
        pattern_named(name)
    with pytest.raises(GraphError, match=r"unknown format .*of weights also with N:M"):
        parse_format(f"int8+{name}")
    with pytest.raises(GraphError, match="weights can be int8, int4, int3, int2, each with N:M"):
        weight_format(f"int8+{name}")


def test_dense_is_said_by_saying_nothing() -> None:
    assert pattern_named("dense") == DENSE
    for parse in (parse_format, weight_format):
        with pytest.raises(GraphError):
            parse("int8+dense")
    with pytest.raises(GraphError):
        weight_format("uint8+2:4")


@CASES
def test_codes_come_back(name: str, shape: tuple[int, ...]) -> None:
    rng, pattern = np.random.default_rng(0), pattern_named(name)
    assert pattern.mask is not None
    for bits in (8, 4, 3, 2):
        kept = pattern.mask(rng.normal(size=shape))
        codes = rng.integers(0, 1 << bits, shape, dtype=np.uint8) * kept
        for written in (codes, np.zeros_like(codes)):
            packed = pattern.pack(written, bits)
            assert packed.shape == (pattern.size(shape, bits),)
            np.testing.assert_array_equal(pattern.unpack(packed, shape, bits), written)
            assert pattern.holds(written != 0)
        with pytest.raises(ArtifactError, match="bytes"):
            pattern.unpack(packed[:-1], shape, bits)


@CASES
def test_a_mask_keeps_the_largest_and_what_follows_the_pattern(name: str, shape: tuple[int, ...]) -> None:
    pattern = pattern_named(name)
    assert pattern.mask is not None
    weight = np.random.default_rng(1).normal(size=shape)
    kept = pattern.mask(weight)
    assert pattern.holds(kept)
    assert not pattern.holds(np.ones(shape, bool)) or kept.all()
    np.testing.assert_array_equal(pattern.mask(np.where(kept, weight, 0.0)), kept)


def test_groups_keep_their_largest() -> None:
    pattern = pattern_named("2:4")
    assert pattern.mask is not None
    weight = np.array([[1, -4, 2, 3, 5, 6], [1, 1, 1, 1, 0, 0]], float)
    expected = [[0, 1, 0, 1, 1, 1], [1, 1, 0, 0, 1, 1]]  # of equal ones the first
    np.testing.assert_array_equal(pattern.mask(weight), np.array(expected, bool))


def test_blocks_keep_those_of_the_largest_power_wherever_they_lie() -> None:
    pattern = pattern_named("2x2:40")
    assert pattern.mask is not None
    weight = np.zeros((3, 2, 3))  # two taps, each of four blocks: 2 x 2, 2 x 1, 1 x 2 and 1 x 1
    weight[0, 0, 0], weight[2, 0, 2], weight[1, 1, 2], weight[2, 1, 0] = 1, 3, -2, 4
    kept = pattern.mask(weight)
    expected = np.zeros(weight.shape, bool)  # four of eight
    expected[:2, 0, :2] = expected[2:, 0, 2:] = expected[:2, 1, 2:] = expected[2:, 1, :2] = True
    np.testing.assert_array_equal(kept, expected)


def test_sizes() -> None:
    shape = (32, 3, 3, 64)
    count = 32 * 9 * 64
    assert pattern_named("2:4").size(shape, 8) == count // 2 + count // 8
    assert pattern_named("1:4").size(shape, 4) == count // 8 + count // 16
    # 288 blocks of 64; three bits are planes of two and of one
    assert pattern_named("4x16:50").size(shape, 3) == packed_size(144 * 64, 3) + 36
    assert pattern_named("4x16:38").size(shape, 8) == 110 * 64 + 36
    # blocks at the ends of the channels take up whole ones, of at most the channels there are
    assert pattern_named("4x16:50").size((20, 1, 1, 6), 8) == 2 * 64 + 1
    assert pattern_named("4x16:50").size((8, 1, 1, 3), 8) == 1 * 24 + 1
    widths = {
        name: [Format("int", bits, pattern=pattern_named(name)).width for bits in (8, 4, 2)]
        for name in NAMES[:2]
    }
    assert widths == {"2:4": [5.0, 3.0, 2.0], "1:4": [2.5, 1.5, 1.0]}


def test_weights_that_break_it_are_refused() -> None:
    for text in ("int8+2:4", "int8+4x16:50"):
        with pytest.raises(GraphError, match=r"do not follow the pattern of int8\+"):
            QTensor.from_values(np.ones((32, 8), int), np.ones(32, np.float32), weight_format(text))
    with pytest.raises(GraphError, match="only dense weights"):
        Format("int", 4, book=True, pattern=pattern_named("2:4"))
