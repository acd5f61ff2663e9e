"""Activation grids, against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subbyte.errors import GraphError
from subbyte.quant import QParams, nearest_levels, qparams_from_range
from tests.unit.exact import fl, rne

scales = st.floats(width=32, min_value=2.0**-60, max_value=2.0**60)
grids = st.sampled_from([2, 3, 4, 8]).flatmap(
    lambda bits: st.builds(QParams, scales, st.integers(0, (1 << bits) - 1), st.just(bits))
)
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(grids, numbers)
def test_quantize_is_the_formula(q: QParams, x: float) -> None:
    scaled = fl(Fraction(x) * fl(1 / Fraction(q.scale)))
    expected = rne(clamp_real(scaled, -q.zero_point, q.qmax - q.zero_point)) + q.zero_point
    with np.errstate(over="ignore", under="ignore"):
        assert int(q.quantize(np.array([x], np.float32))[0]) == expected


def clamp_real(value: Fraction, low: int, high: int) -> Fraction:
    return min(max(value, Fraction(low)), Fraction(high))


@given(grids)
def test_dequantize_is_the_formula(q: QParams) -> None:
    codes = np.arange(q.qmax + 1, dtype=np.uint8)
    real = q.dequantize(codes)
    assert real.dtype == np.float32
    assert [Fraction(v.item()) for v in real] == [
        fl((c - q.zero_point) * Fraction(q.scale)) for c in range(q.qmax + 1)
    ]


@given(grids)
def test_codes_survive_the_round_trip(q: QParams) -> None:
    codes = np.arange(q.qmax + 1, dtype=np.uint8)
    assert np.array_equal(q.quantize(q.dequantize(codes)), codes)


@given(grids)
def test_zero_is_its_zero_point(q: QParams) -> None:
    assert q.quantize(np.zeros(1, np.float32))[0] == q.zero_point


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.sampled_from([2, 3, 4, 8]))
def test_grid_from_range_covers_it(a: float, b: float, bits: int) -> None:
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    q = qparams_from_range(min(a, b), max(a, b), bits)
    # the zero point is rounded to a code, which moves either end by at most half a step
    slack = 0.5 * q.scale + 2**-22 * (high - low)
    assert q.low <= low + slack
    assert q.high >= high - slack
    if high - low > 1e-20:
        assert q.high - q.low <= (high - low) * (1 + 2**-23)


def test_grid_of_nothing_has_scale_one() -> None:
    assert qparams_from_range(0.0, 0.0) == QParams(1.0, 0, 8)


@pytest.mark.parametrize("bound", [float("nan"), float("inf"), float("-inf")])
def test_range_must_be_finite(bound: float) -> None:
    with pytest.raises(GraphError, match="not finite"):
        qparams_from_range(-1.0, bound)


BAD: list[tuple[tuple[Any, Any, Any], str]] = [
    ((1.0, 0, 5), "bits must be one of"),
    ((1.0, 0, 8.0), "bits must be one of"),
    ((1.0, 0, True), "bits must be one of"),
    ((1.0, 0, None), "bits must be one of"),
    ((0.0, 0, 8), "positive and finite"),
    ((-1.0, 0, 8), "positive and finite"),
    ((float("nan"), 0, 8), "positive and finite"),
    ((float("inf"), 0, 8), "positive and finite"),
    ((0.1, 0, 8), "not a normal float32"),
    ((1e300, 0, 8), "not a normal float32"),
    ((2.0**-140, 0, 8), "not a normal float32"),
    ((1, 0, 8), "float scale"),
    (("1", 0, 8), "float scale"),
    ((1.0, -1, 8), "outside 0..255"),
    ((1.0, 256, 8), "outside 0..255"),
    ((1.0, 16, 4), "outside 0..15"),
    ((1.0, 3.0, 8), "int zero point"),
    ((1.0, False, 8), "int zero point"),
    ((1.0, None, 8), "int zero point"),
]


@pytest.mark.parametrize(("fields", "message"), BAD)
def test_refuses(fields: tuple[Any, Any, Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        QParams(*fields)


BYTES = st.permutations(range(256))
books = st.tuples(st.sampled_from([2, 3, 4]), BYTES, st.integers(0, 15)).map(
    lambda drawn: (drawn[0], tuple(sorted(drawn[1][: 1 << drawn[0]])), drawn[2] % (1 << drawn[0]))
)


@given(scales, books)
def test_levels_are_bytes_of_an_8_bit_grid(scale: float, book: tuple[int, tuple[int, ...], int]) -> None:
    bits, levels, zero = book
    q = QParams(scale, levels[zero], bits, levels)
    assert (q.bits, q.qmax, str(q.format)) == (bits, 255, f"uint{bits}+levels")
    assert (q.low, q.high) == ((levels[0] - q.zero_point) * scale, (levels[-1] - q.zero_point) * scale)
    codes = np.array(levels, np.uint8)
    assert np.array_equal(q.quantize(q.dequantize(codes)), codes)
    assert np.array_equal(q.dequantize(codes), QParams(scale, levels[zero]).dequantize(codes))


@given(books, st.lists(st.integers(-512, 1024).map(lambda n: n / 2), min_size=1, max_size=9))
def test_nearest_levels(book: tuple[int, tuple[int, ...], int], v: list[float]) -> None:
    """The first of those that are nearest, which is the lower one."""
    wanted = [min(book[1], key=lambda level: abs(level - x)) for x in v]
    assert nearest_levels(np.array(v), book[1]).tolist() == wanted


@pytest.mark.parametrize(
    ("bits", "levels", "message"),
    [
        (8, tuple(range(256)), "8 bits makes every byte"),
        (2, (0, 1, 2), "must be 4 in ascending order"),
        (2, (0, 1, 2, 3, 4), "must be 4 in ascending order"),
        (2, (0, 1, 1, 2), "must be 4 in ascending order"),
        (2, (0, 2, 1, 3), "must be 4 in ascending order"),
        (2, (0, 1, 2, 256), "ints in 0..255"),
        (2, (-1, 0, 1, 2), "ints in 0..255"),
        (2, (0, 1, 2, True), "ints in 0..255"),
        (2, (0, 1, 2, 3.0), "ints in 0..255"),
        (2, [0, 1, 2, 3], "must be a tuple"),
        (2, (0, 2, 3, 4), "zero point 1 must be one of the levels"),
    ],
)
def test_what_levels_cannot_be(bits: int, levels: Any, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        QParams(1.0, 1, bits, levels)
