"""Sizes for people have three digits or more."""

from __future__ import annotations

import pytest

from subbyte.system.units import duration_text, size_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1904, "1.9 kB"),
        (99_949, "99.9 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (4_803_221, "4.80 MB"),
        (1_200_000_000, "1200.00 MB"),
    ],
)
def test_size_text(count: int, text: str) -> None:
    assert size_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (99.4, "99 s"),
        (99.6, "2 min"),
        (5969.0, "99 min"),
        (5971.0, "1 h 40 min"),
        (7500.0, "2 h 05 min"),
    ],
)
def test_duration_text(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
