"""Noise of sensors and of transmission. float32 [H, W, C] in 0..1 to the same, not clipped."""

from __future__ import annotations

import numpy as np

Random = np.random.Generator


def gaussian_noise(x: np.ndarray, std: float, rng: Random) -> np.ndarray:
    """Adds normal noise of standard deviation `std`, as a sensor has in little light."""
    return x + np.float32(std) * rng.standard_normal(x.shape, np.float32)


def shot_noise(x: np.ndarray, photons: float, rng: Random) -> np.ndarray:
    """Poisson noise of white pixels that count `photons` photons."""
    return (rng.poisson(x * photons) / photons).astype(np.float32)


def impulse_noise(x: np.ndarray, share: float, rng: Random) -> np.ndarray:
    """A share of the values, channel by channel, becomes 0 or 1 with equal chances."""
    draw = rng.random(x.shape, np.float32)
    return np.where(draw < share / 2, np.float32(0), np.where(draw > 1 - share / 2, np.float32(1), x))
