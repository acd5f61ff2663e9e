"""The arithmetic that the tests lean on, against the processor's."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.exact import fl

floats = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**60), max_value=2.0**60)


@given(floats, floats)
def test_fl_is_float32_rounding(a: float, b: float) -> None:
    assert fl(Fraction(a) * Fraction(b)) == Fraction(float(np.float32(a) * np.float32(b)))
    assert fl(Fraction(a) + Fraction(b)) == Fraction(float(np.float32(a) + np.float32(b)))


def test_fl_ties_to_even() -> None:
    assert fl(Fraction(2**24 + 1)) == 2**24
    assert fl(Fraction(2**24 + 3)) == 2**24 + 4
