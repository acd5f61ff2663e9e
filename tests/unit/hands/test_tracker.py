"""Landmarks of tiny networks, and a hand that is found, followed and lost."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from subbyte.artifact import load, save
from subbyte.errors import InputError
from subbyte.hands import LandmarkNetwork, PalmDetector, Region, Tracker, from_landmarks
from subbyte.hands.landmarks import hand_of
from tests.unit.hands.networks import POINTS, SIZE

WHITE, BLACK = np.full((64, 64, 3), 255, np.uint8), np.zeros((64, 64, 3), np.uint8)


@pytest.fixture
def tracker(files: tuple[Path, Path]) -> Tracker:
    return Tracker(PalmDetector(files[0]), LandmarkNetwork(files[1]))


def test_landmarks(files: tuple[Path, Path]) -> None:
    network = LandmarkNetwork(files[1])
    region = Region(30, 20, 64, math.pi / 2, SIZE)
    hand = network.find(WHITE, region)
    assert hand.presence == pytest.approx(1)
    assert hand.right == pytest.approx(1 / (1 + math.exp(-5)))
    np.testing.assert_allclose(hand.points[:, :2], region.to_image(POINTS), atol=1e-4)
    np.testing.assert_allclose(
        hand.points[:, 2], 2 / 0.4, rtol=1e-6
    )  # the input's pixels are two of the image's
    # turned clockwise by a right angle: to the right is downward
    assert hand.world is not None
    np.testing.assert_allclose(hand.world[:, 1], POINTS[:, 0] / 100, atol=1e-5)
    np.testing.assert_allclose(hand.world[:, 0], -POINTS[:, 1] / 100, atol=1e-5)
    assert network.find(BLACK, region).presence < 1e-6


def test_points_count_pixels_of_the_size_that_the_network_was_made_for(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    artifact = load(files[1])
    other = {**artifact.provenance, "resolution": {"made_for": [2 * SIZE, 2 * SIZE]}}
    save(tmp_path / "other.subbyte", replace(artifact, provenance=other))
    region = Region(30, 20, 64, 0.5, SIZE)
    hand = LandmarkNetwork(tmp_path / "other.subbyte").find(WHITE, region)
    np.testing.assert_allclose(hand.points[:, :2], region.to_image(POINTS / 2), atol=1e-4)
    assert hand.region == region


def test_a_network_of_points_alone() -> None:
    hand = hand_of(np.arange(42, dtype=np.float32)[None], Region(112, 112, 224))
    assert (hand.presence, hand.right, hand.world) == (1, None, None)
    np.testing.assert_allclose(hand.points, np.arange(42).reshape(21, 2))


def test_a_hand_is_found_followed_and_lost(tracker: Tracker) -> None:
    first = tracker.see(WHITE)
    assert first.hand is not None
    assert not first.tracked
    assert set(first.seconds) == {"palm", "crop", "landmarks"}
    second = tracker.see(WHITE)
    assert second.hand is not None
    assert second.tracked
    assert set(second.seconds) == {"crop", "landmarks"}
    assert second.hand.region == from_landmarks(first.hand.points, SIZE)
    lost = tracker.see(BLACK)
    assert (lost.hand, lost.tracked) == (None, False)
    assert set(lost.seconds) == {"palm", "crop", "landmarks"}
    assert set(tracker.see(BLACK).seconds) == {"palm"}
    assert tracker.see(WHITE).hand is not None


def test_forget(tracker: Tracker) -> None:
    tracker.see(WHITE)
    tracker.forget()
    assert not tracker.see(WHITE).tracked


def test_the_least_presence(files: tuple[Path, Path]) -> None:
    networks = PalmDetector(files[0]), LandmarkNetwork(files[1])
    grey = np.full((64, 64, 3), 53, np.uint8)  # at 51 both networks are undecided
    found = Tracker(*networks, 0.5).see(grey)
    assert found.hand is not None
    assert 0.5 < found.hand.presence < 0.75
    assert Tracker(*networks, 0.75).see(grey).hand is None
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(InputError, match="min_presence"):
            Tracker(*networks, bad)


def test_small_and_large_images(tracker: Tracker) -> None:
    for shape in ((1, 1, 3), (3, 500, 3), (3000, 2000, 3)):
        tracker.forget()
        for _ in range(3):
            tracker.see(np.full(shape, 255, np.uint8))


def test_bad_images(tracker: Tracker) -> None:
    for image in (WHITE[..., 0], WHITE.astype(np.float32), WHITE[:0]):
        with pytest.raises(InputError, match="image must"):
            tracker.see(image)


def test_another_network_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a landmark network has 42 or 63"):
        LandmarkNetwork(files[0])
