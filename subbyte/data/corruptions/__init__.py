"""The fifteen families of corruption of ImageNet-C at five severities, made on the fly.

Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", ICLR 2019 (arXiv:1903.12261) defines the families; the levels below are those of its
224 x 224 data set, except for fog, whose last two are thicker, and the elastic transform, whose published
ones do not grow in severity. The code is this package's own: frost is a generated texture, not photographs,
glass blur moves all pixels at once, and nothing is compressed to JPEG afterwards. Results are therefore
comparable with each other, not with published ImageNet-C numbers. Distances are in pixels, whatever the
size of the image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subbyte.data.corruptions.blur import defocus_blur, glass_blur, motion_blur, to_bytes, zoom_blur
from subbyte.data.corruptions.digital import contrast, elastic_transform, jpeg_compression, pixelate
from subbyte.data.corruptions.noise import gaussian_noise, impulse_noise, shot_noise
from subbyte.data.corruptions.weather import brightness, fog, frost, snow
from subbyte.errors import InputError

SEVERITIES = (1, 2, 3, 4, 5)
CHANNELS = 3  # snow, fog and brightness are defined for colours


@dataclass(frozen=True)
class Corruption:
    """apply(float32 [H, W, 3] in 0..1, one of the five levels, generator): the same, not yet clipped."""

    group: str
    apply: Callable[[np.ndarray, Any, np.random.Generator], np.ndarray]
    levels: tuple[Any, Any, Any, Any, Any]


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption("noise", gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": Corruption("noise", shot_noise, (60, 25, 12, 5, 3)),
    "impulse_noise": Corruption("noise", impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27)),
    "defocus_blur": Corruption("blur", defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))),
    "glass_blur": Corruption(
        "blur", glass_blur, ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
    ),
    "motion_blur": Corruption("blur", motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    "zoom_blur": Corruption(
        "blur",
        zoom_blur,
        (
            np.arange(1.00, 1.11, 0.01),
            np.arange(1.00, 1.16, 0.01),
            np.arange(1.00, 1.21, 0.02),
            np.arange(1.00, 1.26, 0.02),
            np.arange(1.00, 1.33, 0.03),
        ),
    ),
    "snow": Corruption(
        "weather",
        snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "frost": Corruption("weather", frost, ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))),
    "fog": Corruption("weather", fog, ((1.5, 2), (2, 2), (2.5, 1.7), (3, 1.5), (3.75, 1.4))),
    "brightness": Corruption("weather", brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": Corruption("digital", contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "elastic_transform": Corruption("digital", elastic_transform, (1.0, 1.5, 2.25, 3.0, 4.0)),
    "pixelate": Corruption("digital", pixelate, (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg_compression": Corruption("digital", jpeg_compression, (25, 18, 15, 10, 7)),
}
GROUPS = tuple(dict.fromkeys(corruption.group for corruption in CORRUPTIONS.values()))


def corrupt(image: np.ndarray, family: str, severity: int, seed: int = 0) -> np.ndarray:
    """The image, uint8 [H, W, 3], corrupted: the same shape and dtype.

    Equal images, families, severities (1..5) and seeds give equal results, whatever came before. The
    severities of an image share their random draws: the same wind, the same fog, more of it.
    Raises InputError for another array, family or severity.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != CHANNELS:
        raise InputError(f"an image must be uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
    if family not in CORRUPTIONS:
        raise InputError(f"unknown corruption {family!r}; known: {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise InputError(f"a severity is a whole number from 1 to 5, got {severity!r}")
    key = f"{seed} {family} {image.shape}".encode() + image.tobytes()
    rng = np.random.default_rng(int.from_bytes(hashlib.blake2b(key, digest_size=16).digest(), "little"))
    corruption = CORRUPTIONS[family]
    x = image.astype(np.float32) / np.float32(255)
    return to_bytes(corruption.apply(x, corruption.levels[severity - 1], rng))


def families_of(names: Sequence[str]) -> tuple[str, ...]:
    """Families for names of families, of groups (noise, blur, weather, digital), or "all", each once, in
    the order of CORRUPTIONS. InputError for an unknown name or none."""
    known = ["all", *GROUPS, *CORRUPTIONS]
    for name in names:
        if name not in known:
            raise InputError(f"unknown corruption {name!r}; known: {', '.join(known)}")
    if not names:
        raise InputError(f"give at least one corruption; known: {', '.join(known)}")
    return tuple(family for family, c in CORRUPTIONS.items() if {"all", family, c.group} & set(names))
