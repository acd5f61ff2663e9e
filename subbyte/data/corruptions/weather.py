"""Weather and light. float32 [H, W, 3] in 0..1 to the same, not clipped."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from subbyte.data.corruptions.blur import convolve, streak

Random = np.random.Generator
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
ICE = np.array([0.86, 0.94, 1.0], np.float32)


def snow(
    x: np.ndarray, level: tuple[float, float, float, float, int, float, float], rng: Random
) -> np.ndarray:
    """Flakes: normal noise of `mean` and `std`, enlarged by `zoom`, what is above `threshold`, blown into
    streaks of `radius` and `sigma`; the image below keeps the share `kept`, the rest whitens."""
    mean, std, zoom, threshold, radius, sigma, kept = level
    height, width = x.shape[:2]
    noise = rng.normal(mean, std, (math.ceil(height / zoom), math.ceil(width / zoom))).astype(np.float32)
    flakes = np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BILINEAR))
    flakes = np.clip(np.where(flakes < threshold, 0, flakes), 0, 1)[..., None]
    flakes = np.clip(convolve(flakes, streak(radius, sigma, rng.uniform(-135, -45))), 0, 1)
    grey = (x @ LUMA)[..., None]
    white = np.maximum(x, grey * 1.5 + 0.5)
    return kept * x + (1 - kept) * white + flakes + flakes[::-1, ::-1]


def frost(x: np.ndarray, level: tuple[float, float], rng: Random) -> np.ndarray:
    """The image by `kept` plus a frozen pane by `ice`."""
    kept, ice = level
    return kept * x + ice * frozen_pane(x.shape[0], x.shape[1], rng)


def fog(x: np.ndarray, level: tuple[float, float], rng: Random) -> np.ndarray:
    """Fractal fog of that thickness, added; the brightest value stays what it was."""
    thickness, decay = level
    brightest = float(x.max())
    veil = fractal(x.shape[0], x.shape[1], decay, rng)[..., None]
    return (x + thickness * veil) * (brightest / (brightest + thickness))


def brightness(x: np.ndarray, amount: float, rng: Random) -> np.ndarray:
    """`amount` more of value (the largest of R, G, B), up to 1; hue and saturation stay."""
    value = x.max(axis=-1, keepdims=True)
    target = np.minimum(value + np.float32(amount), np.float32(1))
    return np.where(value > 0, x * (target / np.maximum(value, np.float32(1 / 255))), target)


def fractal(height: int, width: int, decay: float, rng: Random) -> np.ndarray:
    """float32 [H, W] from 0 to 1: octaves of smooth noise, each on twice the cells at 1 / decay of the
    amplitude of the one before."""
    total = np.zeros((height, width), np.float32)
    for octave in range(max(1, int(math.log2(max(height, width))))):
        cells = rng.uniform(-1, 1, (2**octave + 1, 2**octave + 1)).astype(np.float32)
        smooth = Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(smooth) * np.float32(decay**-octave)
    total -= total.min()
    return total / max(float(total.max()), 1e-6)


def frozen_pane(height: int, width: int, rng: Random) -> np.ndarray:
    """float32 [H, W, 3] in 0..1: bright veins of ice over a bluish veil, thicker towards the border."""
    veins = 1 - np.abs(2 * fractal(height, width, 1.6, rng) - 1)
    crystals = np.clip((veins - 0.6) / 0.4, 0, 1) ** 2
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    border = np.maximum(abs(y), abs(x)).astype(np.float32)
    veil = fractal(height, width, 2.0, rng) * (0.35 + 0.65 * border)
    return np.minimum(0.7 * crystals + 0.8 * veil, 1)[..., None] * ICE
