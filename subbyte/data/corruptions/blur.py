"""Blur of optics and of movement. float32 [H, W, C] in 0..1 to the same."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

Random = np.random.Generator


def defocus_blur(x: np.ndarray, level: tuple[float, float], rng: Random) -> np.ndarray:
    """A disk of that radius in pixels, its edge softened by a Gaussian of that sigma."""
    from scipy.ndimage import gaussian_filter

    radius, softness = level
    reach = math.ceil(radius + 3 * softness)
    squared = np.arange(-reach, reach + 1) ** 2
    disk = (squared[:, None] + squared <= radius**2).astype(np.float32)
    return convolve(x, gaussian_filter(disk, softness))


def glass_blur(x: np.ndarray, level: tuple[float, int, int], rng: Random) -> np.ndarray:
    """Frosted glass: between two Gaussians of `sigma`, pixels come from up to `reach` pixels away.

    In each of `rounds` rounds all pixels move at once, where the published definition swaps them one
    after another.
    """
    from scipy.ndimage import gaussian_filter

    sigma, reach, rounds = level
    height, width = x.shape[:2]
    result = gaussian_filter(x, (sigma, sigma, 0))
    rows, columns = np.ogrid[:height, :width]
    for _ in range(rounds):
        down, right = rng.integers(-reach, reach, (2, height, width), endpoint=True)
        result = result[np.clip(rows + down, 0, height - 1), np.clip(columns + right, 0, width - 1)]
    return gaussian_filter(result, (sigma, sigma, 0))


def motion_blur(x: np.ndarray, level: tuple[int, float], rng: Random) -> np.ndarray:
    """Movement by up to `radius` pixels, fading like a Gaussian of `sigma`, at most 45 degrees steep."""
    radius, sigma = level
    return convolve(x, streak(radius, sigma, rng.uniform(-45, 45)))


def zoom_blur(x: np.ndarray, factors: np.ndarray, rng: Random) -> np.ndarray:
    """The mean of the image and its enlargements around the centre by `factors`."""
    height, width = x.shape[:2]
    image = Image.fromarray(to_bytes(x))
    total = x.copy()
    for factor in factors:
        top, left = (height - height / factor) / 2, (width - width / factor) / 2
        box = (left, top, width - left, height - top)
        enlarged = image.resize((width, height), Image.Resampling.BILINEAR, box)
        total += np.asarray(enlarged, np.float32) / 255
    return total / np.float32(len(factors) + 1)


def streak(radius: int, sigma: float, degrees: float) -> np.ndarray:
    """float32 kernel with sum 1: a line from its centre, 2 * radius long, fading like a Gaussian."""
    reach = 2 * radius + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    y = reach + steps * math.sin(math.radians(degrees))
    x = reach + steps * math.cos(math.radians(degrees))
    for dy in (0, 1):  # each point is shared by the four pixels around it
        for dx in (0, 1):
            rows, columns = np.floor(y).astype(int) + dy, np.floor(x).astype(int) + dx
            np.add.at(kernel, (rows, columns), weights * (1 - abs(y - rows)) * (1 - abs(x - columns)))
    return kernel / kernel.sum()


def convolve(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Every channel with the kernel, float32 of odd sides and scaled to sum 1; the borders are mirrored."""
    from scipy import fft

    rows, columns = kernel.shape[0] // 2, kernel.shape[1] // 2
    planes = np.pad(x.transpose(2, 0, 1), ((0, 0), (rows, rows), (columns, columns)), "symmetric")
    shape = [fft.next_fast_len(side, real=True) for side in planes.shape[1:]]
    product = fft.rfft2(planes, shape) * fft.rfft2(kernel / kernel.sum(), shape)
    # cyclic, but what wraps around falls on the padding alone
    full = fft.irfft2(product, shape)[:, 2 * rows :, 2 * columns :]
    return full[:, : x.shape[0], : x.shape[1]].transpose(1, 2, 0)


def to_bytes(x: np.ndarray) -> np.ndarray:
    """0..1 to uint8 0..255, clipped and rounded."""
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)
