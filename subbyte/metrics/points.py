"""Key points: how far they are from where they should be, in units of the object's size.

Distances are in pixels of the image, over the longer side of the box around the points that they should be at
(of the image, where that box has no extent).
- PCK, the percentage of correct key points (Yang and Ramanan 2013, IEEE TPAMI 35:2878): the share of points
  with a distance of at most ALPHA.
- NME, the normalized mean error: the mean distance (Bulat and Tzimiropoulos 2017, arXiv:1703.07332, who
  divide by the square root of the box's area, which is 0 for points on a line).
"""

from __future__ import annotations

import numpy as np

ALPHA = 0.1


def distances(points: np.ndarray, expected: np.ndarray, size: np.ndarray) -> np.ndarray:
    """float64 [n, K] distances, NaN where the expected point is not known.

    points, expected: float [n, K, 2], x and y in 0..1 of the image. size: float [n, 2], its width and height.
    Every image needs a point that is known.
    """
    away = np.linalg.norm((points - expected) * size[:, None], axis=2)
    box = (np.nanmax(expected, axis=1) - np.nanmin(expected, axis=1)) * size
    length = box.max(axis=1)
    length = np.where(length > 0, length, size.max(axis=1))
    return away / length[:, None]


def correct_share(distance: np.ndarray) -> np.ndarray:
    """float64 [n]: the share of each image's known points that are correct."""
    return (distance <= ALPHA).sum(axis=1) / np.isfinite(distance).sum(axis=1)


def mean_distance(distance: np.ndarray) -> float:
    """NME: mean over the images of the mean over their known points."""
    return float(np.nanmean(distance, axis=1).mean())
