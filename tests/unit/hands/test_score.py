"""Errors of landmarks, on examples worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from subbyte.errors import InputError
from subbyte.hands import score
from tests.unit.hands.test_region import UPRIGHT  # its palm's size is 80

TWO = np.stack([UPRIGHT, UPRIGHT])


def test_errors() -> None:
    found = TWO.copy()
    found[0, 5:9, 0] += 8  # the index finger by a tenth
    found[1, 0] += (0, 24)  # the wrist by three tenths
    errors = score(found, TWO)
    assert errors.found == 2
    assert errors.mean == pytest.approx((4 * 0.1 + 0.3) / 42)
    assert errors.pck == pytest.approx(41 / 42)
    assert errors.fingers == pytest.approx(
        {"wrist": 0.15, "thumb": 0, "index": 0.05, "middle": 0, "ring": 0, "little": 0}
    )


def test_the_limit_is_correct() -> None:
    found = UPRIGHT.copy()
    found[4] += (16, 0)
    assert score(found, UPRIGHT).pck == 1
    found[4] += (0.01, 0)
    assert score(found, UPRIGHT).pck == pytest.approx(20 / 21)


def test_hands_that_are_not_found() -> None:
    found = TWO.copy()
    found[0] = np.nan
    found[1] += (8, 0)
    errors = score(found, TWO)
    assert (errors.found, errors.pck) == (1, 0.5)
    assert errors.mean == pytest.approx(0.1)
    none = score(np.full_like(TWO, np.nan), TWO)
    assert (none.found, none.pck) == (0, 0)
    assert np.isnan(none.mean)


def test_depth_is_not_read() -> None:
    deep = np.concatenate([UPRIGHT, np.full((21, 1), 50.0)], axis=1)
    assert score(deep, UPRIGHT).mean == 0


def test_bad_points() -> None:
    for found, true in (
        (UPRIGHT[:20], UPRIGHT),
        (UPRIGHT, UPRIGHT[:20]),
        (TWO, UPRIGHT),
        (UPRIGHT[:, 0], UPRIGHT),
    ):
        with pytest.raises(InputError):
            score(found, true)
    with pytest.raises(InputError, match="finite"):
        score(UPRIGHT, UPRIGHT * np.nan)
    with pytest.raises(InputError, match="wrist"):
        score(UPRIGHT, np.zeros((21, 2)))
