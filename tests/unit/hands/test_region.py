"""Squares around hands: MediaPipe's rules on examples worked by hand, and points there and back."""

from __future__ import annotations

import math

import numpy as np
import pytest

from subbyte.errors import InputError
from subbyte.hands import Region, from_landmarks, from_palm
from subbyte.hands.region import upright, whole

#: An upright hand: the wrist below, the knuckles in a row 80 pixels above, all fingers stretched.
UPRIGHT = np.array(
    [
        *((100, 200), (70, 180), (50, 160), (40, 140), (30, 120)),
        *((80, 120), (80, 90), (80, 70), (80, 50)),
        *((100, 120), (100, 80), (100, 60), (100, 40)),
        *((120, 120), (120, 90), (120, 70), (120, 50)),
        *((140, 130), (140, 110), (140, 95), (140, 80)),
    ],
    np.float64,
)


def turned(points: np.ndarray, angle: float) -> np.ndarray:
    """Clockwise around the origin."""
    c, s = math.cos(angle), math.sin(angle)
    return points @ np.array([[c, s], [-s, c]])


def test_the_square_of_an_upright_hand() -> None:
    # spanned: x from 40 (thumb) to 140, y from 80 (the middle finger's second joint) to 200
    region = from_landmarks(UPRIGHT)
    assert (region.angle, region.size) == (0, 224)
    assert region.side == pytest.approx(2 * 120)
    assert (region.x, region.y) == pytest.approx((90, 140 - 0.1 * 120))


@pytest.mark.parametrize("angle", [-3.0, -1.2, 0.3, 2.0])
def test_the_square_turns_with_the_hand(angle: float) -> None:
    region, first = from_landmarks(turned(UPRIGHT, angle)), from_landmarks(UPRIGHT)
    assert region.angle == pytest.approx(angle)
    assert region.side == pytest.approx(first.side)
    np.testing.assert_allclose((region.x, region.y), turned(np.array([first.x, first.y]), angle))
    np.testing.assert_allclose(region.to_input(turned(UPRIGHT, angle)), first.to_input(UPRIGHT))


def test_the_square_of_a_palm() -> None:
    region = from_palm(np.array([10, 20, 50, 100]), np.array([30, 100]), np.array([30, 20]))
    assert region.angle == 0
    assert region.side == pytest.approx(2.6 * 80)
    assert (region.x, region.y) == pytest.approx((30, 60 - 0.5 * 80))
    to_the_right = from_palm(np.array([10, 20, 50, 100]), np.array([10, 60]), np.array([50, 60]))
    assert to_the_right.angle == pytest.approx(math.pi / 2)
    assert (to_the_right.x, to_the_right.y) == pytest.approx((30 + 0.5 * 80, 60))


def test_upright() -> None:
    wrist = np.zeros(2)
    for knuckle, angle in (
        ((0, -5), 0),
        ((5, 0), math.pi / 2),
        ((-5, 0), -math.pi / 2),
        ((5, -5), math.pi / 4),
    ):
        assert upright(wrist, np.array(knuckle)) == pytest.approx(angle)


def test_points_there_and_back() -> None:
    region = Region(30, -7, 55, 0.7, 96)
    points = np.random.default_rng(0).normal(0, 100, (5, 21, 2))
    np.testing.assert_allclose(region.to_input(region.to_image(points)), points)
    np.testing.assert_allclose(region.to_image(np.array([48, 48])), (30, -7))
    assert np.linalg.norm(region.to_image(np.array([96, 0])) - region.to_image(np.zeros(2))) == pytest.approx(
        55
    )


def test_the_square_around_an_image() -> None:
    region = whole(np.zeros((60, 80, 3), np.uint8), 192)
    np.testing.assert_allclose(region.to_image(np.array([[0, 24], [192, 168]])), [[0, 0], [80, 60]])


def test_bad_points() -> None:
    for points in (UPRIGHT[:20], UPRIGHT[:, :1], UPRIGHT * np.nan, np.full((21, 2), np.inf)):
        with pytest.raises(InputError, match="hand"):
            from_landmarks(points)
    for points in (np.zeros((21, 2)), UPRIGHT * 1e9):
        with pytest.raises(InputError, match="square"):
            from_landmarks(points)
    for square in ((0, 0, 0), (np.nan, 0, 1), (0, 1e30, 1), (0, 0, -1), (0, 0, 1, 0, 0)):
        with pytest.raises(InputError, match="square"):
            Region(*square)
    with pytest.raises(InputError, match="square"):
        from_palm(np.array([5, 5, 5, 5]), np.zeros(2), np.ones(2))
