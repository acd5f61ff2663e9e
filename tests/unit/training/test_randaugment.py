"""Operations keep size and mode, grow with the magnitude, and are drawn as often as each other."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from subbyte.training.randaugment import OPERATIONS, Operation, randaugment

FILL = {"L": (9,), "RGB": (9, 8, 7), "RGBA": (9, 8, 7, 255)}
SIZED = [f for f in OPERATIONS if f.__name__.strip("_") not in ("identity", "autocontrast", "equalize")]
MOVING = {"_rotate", "_shear_x", "_shear_y", "_translate_x", "_translate_y"}


def image(mode: str) -> Image.Image:
    pixels = np.random.default_rng(3).integers(0, 256, (18, 22, len(mode)), np.uint8)
    return Image.fromarray(pixels[..., 0] if mode == "L" else pixels, mode)


@pytest.mark.parametrize("mode", FILL)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("m", [-3.0, -0.5, 0.5, 3.0])
def test_size_and_mode_stay(operation: Operation, mode: str, m: float) -> None:
    given = image(mode)
    made = operation(given, m, FILL[mode])
    assert (made.size, made.mode) == (given.size, given.mode)


@pytest.mark.parametrize("operation", SIZED)
def test_a_larger_magnitude_changes_more(operation: Operation) -> None:
    """On waves, longer than what a pixel is moved by."""
    rows, columns = np.mgrid[0:64, 0:64] / 10
    waves = np.stack([np.sin(rows), np.sin(columns), np.cos(rows + columns)], 2)
    pixels = (128 + 100 * waves).astype(np.uint8)
    given = Image.fromarray(pixels)

    def change(m: float) -> float:
        made = np.asarray(operation(given, m, FILL["RGB"])).astype(float)
        return float(np.abs(made - pixels).mean())

    assert change(0.0) == 0
    assert change(0.3) <= change(0.8)
    assert change(0.8) > 0


def test_transparency_is_kept_by_changes_of_colour() -> None:
    given = image("RGBA")
    for operation in OPERATIONS:
        made = operation(given, 0.5, FILL["RGBA"])
        moved = operation.__name__ in MOVING
        assert moved or np.array_equal(np.asarray(made)[..., 3], np.asarray(given)[..., 3])


def test_the_same_numbers_make_the_same_image_and_magnitude_0_none() -> None:
    given = image("RGB")
    one, two = (randaugment(given, 7, FILL["RGB"], np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(np.asarray(one), np.asarray(two))
    assert randaugment(given, 0, FILL["RGB"], np.random.default_rng(4)) is given
