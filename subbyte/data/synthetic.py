"""Random images with the broad spectrum of photographs, for speed runs without any."""

from __future__ import annotations

import numpy as np

_CELLS = (2, 4, 8, 16, 32, 64)  # grids of noise that are summed, coarse to fine


def synthetic_images(shape: tuple[int, ...], count: int, seed: int = 0) -> np.ndarray:
    """float32 [count, H, W, C], mean about 0 and standard deviation 1 like normalized photographs.

    Each image is a sum of bilinearly enlarged white noise on grids of 2 to 64 cells, which gives
    equal energy per octave, roughly the 1/f amplitude spectrum of natural images.
    """
    height, width, channels = shape
    rng = np.random.default_rng(seed)
    total = np.zeros((count, height, width, channels), np.float32)
    for cells in _CELLS:
        noise = rng.standard_normal((count, cells, cells, channels)).astype(np.float32)
        rows, columns = _enlargement(cells, height), _enlargement(cells, width)
        total += np.einsum("yi,nijc,xj->nyxc", rows, noise, columns, optimize=True)
    return total / total.std()


def _enlargement(cells: int, size: int) -> np.ndarray:
    """float32 [size, cells]: the matrix that enlarges a line of cells by linear interpolation."""
    position = np.linspace(0, cells - 1, size)
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(cells))).astype(np.float32)
