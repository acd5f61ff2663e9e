"""How far landmarks are from where they should be, in units of the hand's palm.

The palm's size is the distance from the wrist to the middle finger's knuckle, of the true points, in the
plane of the image. The error is the mean distance of the 21 points over that size; PCK@0.2, the percentage of
correct key points (Yang and Ramanan 2013, IEEE TPAMI 35:2878), is the share of points whose distance is at
most 0.2 of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from subbyte.errors import InputError
from subbyte.hands.skeleton import FINGERS, JOINTS, MIDDLE, WRIST

ALPHA = 0.2


@dataclass(frozen=True, eq=False)
class Errors:
    """distances: float64 [n, 21], each point's distance over the palm's size; NaN where no hand was found."""

    distances: np.ndarray

    @property
    def found(self) -> int:
        """Of how many hands there are points."""
        return int(np.isfinite(self.distances).all(axis=1).sum())

    @property
    def mean(self) -> float:
        """Mean distance of the points of the hands that were found; NaN if none was."""
        return self._mean(range(JOINTS))

    @property
    def pck(self) -> float:
        """PCK@0.2, from 0 to 1; the points of a hand that was not found are wrong."""
        return float((self.distances <= ALPHA).mean())

    @property
    def fingers(self) -> dict[str, float]:
        """Mean distance of the wrist and of each finger's points, of the hands that were found."""
        return {name: self._mean(joints) for name, joints in {"wrist": (WRIST,), **FINGERS}.items()}

    def _mean(self, joints: range | tuple[int, ...]) -> float:
        some = self.distances[np.isfinite(self.distances).all(axis=1)][:, list(joints)]
        return float(some.mean()) if some.size else float("nan")


def score(predicted: np.ndarray, true: np.ndarray) -> Errors:
    """The errors of n hands' landmarks.

    predicted, true: float [n, 21, 2] (or [21, 2]), pixels of the image; more columns than two are not read.
    All of a predicted hand's points are NaN where it was not found. Raises InputError for other shapes, true
    points that are not finite, and hands without extent from the wrist to the middle finger's knuckle.
    """
    found, expected = (_hands(name, a) for name, a in (("predicted", predicted), ("true", true)))
    if len(found) != len(expected):
        raise InputError(f"there are {len(found)} predicted hands and {len(expected)} true ones")
    if not np.isfinite(expected).all():
        raise InputError("true points must be finite")
    palms = np.linalg.norm(expected[:, MIDDLE] - expected[:, WRIST], axis=1)
    if not (palms > 0).all():
        raise InputError("a true hand's wrist is where the knuckle of its middle finger is")
    return Errors(np.linalg.norm(found - expected, axis=2) / palms[:, None])


def _hands(name: str, points: np.ndarray) -> np.ndarray:
    array = np.asarray(points, np.float64)
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or len(array) == 0 or array.shape[1] != JOINTS or array.shape[2] < 2:
        raise InputError(f"{name} points must be [n, {JOINTS}, 2], not of shape {list(np.shape(points))}")
    return array[:, :, :2]
