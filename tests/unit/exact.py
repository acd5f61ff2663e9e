"""Exact arithmetic with one rounding where docs/spec/numerics.md writes fl(), rne() or clamp()."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

Real = Fraction | float | int


def fl(value: Real) -> Fraction:
    """The float32 nearest to a rational, ties to even, as a rational. Independent of numpy's rounding."""
    exact = Fraction(value)
    if exact == 0:
        return exact
    magnitude = exact.numerator.bit_length() - exact.denominator.bit_length()
    exponent = max(-149, magnitude - 25)  # of the last bit: at least that of the subnormal numbers
    while abs(exact) >= Fraction(2) ** (exponent + 24):
        exponent += 1
    unit = Fraction(2) ** exponent
    return round(exact / unit) * unit  # Fraction rounds half to even


def rne(value: Real) -> int:
    return round(Fraction(value))


def clamp(value: Real, low: int, high: int) -> int:
    return int(min(max(value, low), high))


def real(array: np.ndarray, *index: int) -> Fraction:
    """One element as a rational."""
    return Fraction(array[index].item())
