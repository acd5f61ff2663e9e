"""Squares of images, resampled: beside bilinear interpolation written out, at borders, and far too large."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from subbyte.errors import InputError
from subbyte.hands import Region, crop, from_landmarks, warp
from subbyte.hands.warp import pixels
from tests.unit.hands.test_region import UPRIGHT

NOISE = np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)


def interpolated(image: np.ndarray, region: Region, black: bool) -> np.ndarray:
    """The definition: at each pixel of the input, between the four pixels of the image around its place."""
    y, x = np.meshgrid(*[np.arange(region.size)] * 2, indexing="ij")
    places = region.to_image(np.stack([x, y], axis=-1))
    first = np.floor(places).astype(int)
    share = places - first
    total = np.zeros((region.size, region.size, 3))
    for dx in (0, 1):
        for dy in (0, 1):
            column, row = first[..., 0] + dx, first[..., 1] + dy
            near = image[np.clip(row, 0, len(image) - 1), np.clip(column, 0, image.shape[1] - 1)].astype(
                float
            )
            if black:
                near[(row < 0) | (row >= len(image)) | (column < 0) | (column >= image.shape[1])] = 0
            weight = (share if dx else 1 - share)[..., 0] * (share if dy else 1 - share)[..., 1]
            total += weight[..., None] * near
    return total / 255


@pytest.mark.parametrize("black", [False, True])
@pytest.mark.parametrize(
    "region",
    [
        Region(35, 45, 30, 0.4, 32),  # inside
        Region(35, 45, 60, -2.5, 48),  # over an edge
        Region(5, 80, 63, 1.0, 32),  # over a corner; almost two pixels for one
        Region(300, -200, 40, 0.2, 24),  # outside
        Region(-90, 30, 40, 2.0, 24),  # outside to one side
        Region(40, 900, 30, 0.2, 24),
        Region(35, 45, 3, 0.0, 16),  # enlarged
    ],
)
def test_is_bilinear(region: Region, black: bool) -> None:
    found = warp(NOISE, region, black)
    assert found.dtype == np.float32
    # PIL interpolates in float64 and cuts off what is behind the point
    away = interpolated(NOISE, region, black) * 255 - found.astype(np.float64) * 255
    assert away.min() > -1e-4
    assert away.max() < 1 + 1e-4


def test_large_squares_are_averaged_first() -> None:
    blocks = np.random.default_rng(1).integers(0, 256, (20, 20, 3), np.uint8)
    large = blocks.repeat(3, axis=0).repeat(3, axis=1)
    # three pixels for one, from the first on: the means are the blocks
    found = warp(large, Region(3 * 8 + 1, 3 * 8 + 1, 3 * 16, 0, 16))
    np.testing.assert_array_equal(found, blocks[:16, :16].astype(np.float32) / np.float32(255))


def test_squares_far_larger_than_the_image_take_no_memory() -> None:
    grey = np.full((9, 5, 3), 100, np.uint8)
    for side in (1e3, 1e5, 1e7):
        found = warp(grey, Region(2, 4, side, 0.3, 16))
        assert found.shape == (16, 16, 3)
        np.testing.assert_array_equal(found, np.float32(100) / np.float32(255))


def test_a_crop_shows_the_hand_upright() -> None:
    image = np.zeros((240, 240, 3), np.uint8)
    image[118:123, 98:103] = 255  # the middle finger's knuckle
    found, region = crop(image, UPRIGHT)
    assert found.shape == (224, 224, 3)
    assert region == from_landmarks(UPRIGHT)
    y, x = np.argwhere(found[..., 0] == 1).mean(axis=0)
    np.testing.assert_allclose(region.to_image(np.array([x, y])), UPRIGHT[9], atol=0.5)
    half, _ = crop(Image.fromarray(image), UPRIGHT, 112)
    assert half.shape == (112, 112, 3)
    assert half.max() > 0.9


def test_bad_images() -> None:
    for image in (NOISE.astype(np.float32), NOISE[..., :2], NOISE[0], NOISE[:0]):
        with pytest.raises(InputError, match="image must"):
            pixels(image)
