"""Formats: their texts, bytes and tables."""

from __future__ import annotations

import numpy as np
import pytest

from subbyte.errors import GraphError
from subbyte.quant import Format, QParams, activation_format, uniform_levels, weight_format
from subbyte.quant.format import ACTIVATION_FORMATS, FP16, FP32, INT8, UINT8, WEIGHT_FORMATS, parse_format

EVERY = [*WEIGHT_FORMATS.values(), *ACTIVATION_FORMATS.values(), FP32, FP16, Format("int", 4, book=True)]
LEVELS = Format("uint", 4, book=True)


@pytest.mark.parametrize("format", [*EVERY, LEVELS], ids=str)
def test_texts_are_read_and_written(format: Format) -> None:
    assert parse_format(str(format)) == format
    assert repr(format) == f"Format({format})"


def test_what_files_and_people_are_told() -> None:
    assert [str(format) for format in EVERY[:4]] == ["int8", "int4", "int3", "int2"]
    assert [format.short for format in EVERY[:4]] == [8, 4, 3, 2]
    assert (FP16.short, EVERY[-1].short) == ("fp16", "int4+book")
    assert (INT8.words, FP32.words, EVERY[-1].words) == ("8 bits", "fp32", "int4+book")
    assert EVERY[-1].plain == weight_format(4)


def test_levels_of_activations_are_named_as_what_they_are() -> None:
    """Four bits of information, in a byte each."""
    assert (str(LEVELS), LEVELS.short, LEVELS.words) == (
        *["uint4+levels"] * 2,
        "4-bit levels in a byte",
    )
    assert LEVELS.plain == activation_format(4)
    assert LEVELS.packed_bytes((8, 8, 3)) == 192
    assert LEVELS.bytes((8, 8, 3)) == 192 + 4 + 16


def test_the_tables_are_keyed_by_text() -> None:
    for table in (WEIGHT_FORMATS, ACTIVATION_FORMATS):
        assert all(str(format) == text for text, format in table.items())


@pytest.mark.parametrize("value", [4, "int4", weight_format("int4")])
def test_weights_are_written_in_three_ways(value: object) -> None:
    assert weight_format(value) == Format("int", 4)


@pytest.mark.parametrize(
    "value", [5, "5", "4", "uint4", 4.0, True, None, [4], UINT8, Format("int", 4, book=True)]
)
def test_what_weights_cannot_be(value: object) -> None:
    with pytest.raises(GraphError, match="weights can have 8, 4, 3, 2 bits, not "):
        weight_format(value)
    with pytest.raises(GraphError, match="activations can have 8, 4, 3, 2 bits, not "):
        activation_format("int4")


@pytest.mark.parametrize(
    "text",
    [
        *("", "int5", "uint8+book", "fp32+book", "int4+book+book", "int4+dense", "INT4"),
        *("uint8+levels", "uint4+book", "int4+levels", "uint4+levels+levels"),
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(GraphError, match=r"unknown format|can have a code book"):
        parse_format(text)


def test_bytes() -> None:
    shape = (4, 3, 3, 3)
    expected = {8: 108 + 16, 4: 54 + 16, 3: 27 + 14 + 16, 2: 27 + 16}  # three bits: planes of two and of one
    assert {bits: weight_format(bits).bytes(shape) for bits in expected} == expected
    assert Format("int", 2, book=True).bytes(shape) == 27 + 16 + 4
    assert (FP32.bytes(shape), FP16.bytes(shape)) == (432, 216)
    assert activation_format(4).bytes((8, 8, 3)) == 96 + 4
    assert [format.width for format in EVERY] == [8, 4, 3, 2, 8, 4, 3, 2, 32, 16, 4]


def test_scales() -> None:
    assert (INT8.scales, UINT8.scales, FP32.scales) == ("channel", "tensor", "none")
    assert [format.scale_bytes((4, 9)) for format in (INT8, UINT8, FP32)] == [16, 4, 0]


@pytest.mark.parametrize("format", WEIGHT_FORMATS.values(), ids=str)
def test_codes_come_back(format: Format) -> None:
    codes = np.random.default_rng(0).integers(0, 1 << format.bits, (3, 7), dtype=np.uint8)
    packed = format.pack(codes)
    assert packed.shape == (format.packed_bytes(codes.shape),)
    np.testing.assert_array_equal(format.unpack(packed, codes.shape), codes)


def test_a_code_book_is_what_is_not_twos_complement() -> None:
    four = weight_format(4)
    assert four.with_book(uniform_levels(4)) == four
    assert four.with_book(uniform_levels(4)[::-1]) == Format("int", 4, book=True)
    assert Format("int", 4, book=True).with_book(uniform_levels(4)) == four


def test_a_grid_has_a_format() -> None:
    assert QParams(0.5, 1, 3).format == activation_format(3)
