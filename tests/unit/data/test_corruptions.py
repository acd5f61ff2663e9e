"""Every family at every severity: shape, determinism, growing distortion, and what each one does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from subbyte.data import corruptions as c
from subbyte.data.corruptions.blur import convolve, streak
from subbyte.data.corruptions.weather import fractal, frozen_pane
from subbyte.data.synthetic import synthetic_images
from subbyte.errors import InputError

Measure = Callable[[np.ndarray, np.ndarray], float]


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """Four images of 96 x 80 pixels with the spectrum of photographs."""
    x = synthetic_images((96, 80, 3), 4, seed=5)
    return list(np.clip(128 + 50 * x, 0, 255).astype(np.uint8))


def test_there_are_fifteen_families_in_four_groups() -> None:
    assert len(c.CORRUPTIONS) == 15
    assert c.GROUPS == ("noise", "blur", "weather", "digital")


@pytest.mark.parametrize("family", c.CORRUPTIONS)
def test_shape_dtype_and_determinism(family: str, images: list[np.ndarray]) -> None:
    image = images[0]
    before = image.copy()
    for severity in c.SEVERITIES:
        result = c.corrupt(image, family, severity)
        assert (result.shape, result.dtype.name) == (image.shape, "uint8")
        assert (result != image).mean() > 0.02
        c.corrupt(images[1], "snow", 5)  # what came before does not matter
        np.testing.assert_array_equal(c.corrupt(image, family, severity), result)
    np.testing.assert_array_equal(image, before)


RANDOM = [f for f in c.CORRUPTIONS if f not in {"defocus_blur", "zoom_blur", "brightness", "contrast"}]


@pytest.mark.parametrize("family", sorted({*RANDOM} - {"pixelate", "jpeg_compression"}))
def test_another_seed_is_another_result(family: str, images: list[np.ndarray]) -> None:
    assert (c.corrupt(images[0], family, 3, seed=1) != c.corrupt(images[0], family, 3)).any()


def decorrelation(before: np.ndarray, after: np.ndarray) -> float:
    return 1 - float(np.corrcoef(before.ravel(), after.ravel())[0, 1])


def distance(before: np.ndarray, after: np.ndarray) -> float:
    return float(np.abs(before.astype(float) - after).mean())


#: Snow whitens more than it hides; frost and fog darken what they hide.
MEASURES = [(f, distance) for f in c.CORRUPTIONS if f not in {"frost", "fog"}]
MEASURES += [(f, decorrelation) for f in c.CORRUPTIONS if f != "snow"]


@pytest.mark.parametrize(("family", "measure"), MEASURES)
def test_distortion_grows_with_severity(family: str, measure: Measure, images: list[np.ndarray]) -> None:
    lost = [np.mean([measure(p, c.corrupt(p, family, s)) for p in images]) for s in c.SEVERITIES]
    assert all(np.diff(lost) > 0), lost


def flat(value: int, side: int = 64) -> np.ndarray:
    return np.full((side, side, 3), value, np.uint8)


def test_noise_has_the_variance_it_should() -> None:
    """The standard error of a variance over n normal values is its sqrt(2 / n): 0.6 % here, and a
    Poisson's kurtosis adds little; 3 % is beyond doubt. Rounding to 256 levels adds 1/12."""
    half, side = 127.5 / 255, 192
    gaussian = c.corrupt(flat(128, side), "gaussian_noise", 1).astype(float).var()
    assert gaussian == pytest.approx((0.08 * 255) ** 2 + 1 / 12, rel=0.03)
    shot = c.corrupt(flat(128, side), "shot_noise", 1).astype(float).var()
    assert shot == pytest.approx(half / 60 * 255**2, rel=0.03)
    impulse = c.corrupt(flat(128, side), "impulse_noise", 3)
    share = (impulse != 128).mean()  # standard error sqrt(0.09 * 0.91 / n) = 0.0009
    assert share == pytest.approx(0.09, abs=0.004)
    assert set(np.unique(impulse)) == {0, 128, 255}


@pytest.mark.parametrize("family", ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "pixelate"])
@pytest.mark.parametrize("severity", [1, 5])
def test_blur_leaves_a_flat_image_alone(family: str, severity: int) -> None:
    np.testing.assert_array_equal(c.corrupt(flat(77), family, severity), flat(77))


@pytest.mark.parametrize("family", ["contrast", "elastic_transform"])
def test_digital_families_leave_a_flat_image_alone(family: str) -> None:
    assert np.abs(c.corrupt(flat(77), family, 5).astype(int) - 77).max() <= 1


def test_convolution_is_the_sum_over_taps() -> None:
    rng = np.random.default_rng(2)
    x, kernel = rng.random((9, 7, 2), np.float32), rng.random((5, 3), np.float32)
    kernel /= kernel.sum()
    padded = np.pad(x, ((2, 2), (1, 1), (0, 0)), "symmetric")
    expected = sum(kernel[4 - i, 2 - j] * padded[i : i + 9, j : j + 7] for i in range(5) for j in range(3))
    np.testing.assert_allclose(convolve(x, kernel), expected, atol=1e-6)


def test_streak_points_where_it_should() -> None:
    kernel = streak(4, 100.0, 0.0)
    reach = kernel.shape[0] // 2
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert np.flatnonzero(kernel.sum(axis=1)).tolist() == [reach]
    assert np.flatnonzero(kernel.sum(axis=0)).tolist() == list(range(reach, reach + 9))
    assert np.flatnonzero(streak(4, 100.0, 90.0).sum(axis=1) > 1e-6).tolist() == list(range(reach, reach + 9))


def test_brightness_keeps_hue_and_saturation() -> None:
    image = flat(0)
    image[:] = (100, 50, 25)
    assert c.corrupt(image, "brightness", 2)[0, 0].tolist() == [151, 76, 38]  # 100 + 51, in proportion
    assert c.corrupt(flat(0), "brightness", 2)[0, 0].tolist() == [51, 51, 51]


def test_contrast_and_pixels_by_hand() -> None:
    image = np.concatenate([flat(0), flat(200)])
    assert np.unique(c.corrupt(image, "contrast", 4)).tolist() == [90, 110]
    blocks = c.corrupt(np.arange(192, dtype=np.uint8).repeat(1).reshape(8, 8, 3), "pixelate", 3)
    np.testing.assert_array_equal(blocks[:, 0], blocks[:, 1])


def test_textures_fill_their_range() -> None:
    rng = np.random.default_rng(0)
    cloud = fractal(50, 70, 2.0, rng)
    assert (cloud.shape, cloud.min(), cloud.max()) == ((50, 70), 0, 1)
    rough, smooth = (np.abs(np.diff(fractal(64, 64, d, np.random.default_rng(1)))).mean() for d in (1.4, 2.5))
    assert rough > 2 * smooth
    pane = frozen_pane(64, 64, rng)
    assert pane.min() >= 0
    assert pane.max() <= 1
    assert (pane[..., 2] >= pane[..., 0]).all()


@pytest.mark.parametrize("side", [1, 2, 16])
@pytest.mark.parametrize("family", c.CORRUPTIONS)
def test_tiny_images(family: str, side: int) -> None:
    assert c.corrupt(flat(90, side), family, 5).shape == (side, side, 3)


def test_names() -> None:
    assert c.families_of(["all"]) == tuple(c.CORRUPTIONS)
    assert c.families_of(["fog", "noise", "fog"]) == ("gaussian_noise", "shot_noise", "impulse_noise", "fog")
    for names in (["rain"], []):
        with pytest.raises(InputError, match="known: all, noise"):
            c.families_of(names)


def test_refuses() -> None:
    with pytest.raises(InputError, match="unknown corruption 'rain'"):
        c.corrupt(flat(1), "rain", 1)
    with pytest.raises(InputError, match="from 1 to 5, got 6"):
        c.corrupt(flat(1), "fog", 6)
    with pytest.raises(InputError, match="uint8"):
        c.corrupt(flat(1).astype(np.float32), "fog", 1)
