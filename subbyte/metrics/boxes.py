"""Boxes that were found beside those that are there: overlap, suppression, average precision.

Boxes are float64 [m, 4]: left, top, right and bottom in any unit that is the same for both sides.
Average precision is that of COCO (Lin et al. 2014, arXiv:1405.0312, and its evaluation code): at each of ten
overlaps 0.5, 0.55 .. 0.95, boxes are matched greedily from the surest on; of precision, made to fall with
recall, the mean at recalls 0, 0.01 .. 1; mean of the classes that occur. Boxes on a crowd count as neither
right nor wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST = 100  # boxes of an image and class that count, the surest


def overlap(boxes: np.ndarray, others: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """float64 [m, k]: intersection over union; over the box alone where bool [k] says that the other one is
    around a crowd. 0 of boxes without area."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=2)
    own, other = (np.prod(np.maximum(b[:, 2:] - b[:, :2], 0.0), axis=1) for b in (boxes, others))
    whole = own[:, None] + other[None] - shared
    if crowd is not None:
        whole = np.where(crowd[None], own[:, None], whole)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def suppressed(boxes: np.ndarray, scores: np.ndarray, limit: float) -> np.ndarray:
    """Indices of the boxes that stay, the surest first: none overlaps a surer one by more than `limit`
    (non-maximum suppression, greedy)."""
    order = np.argsort(-scores, kind="stable")
    over, kept = overlap(boxes, boxes) > limit, []
    gone = np.zeros(len(boxes), bool)
    for i in order:
        if not gone[i]:
            kept.append(i)
            gone |= over[i]
    return np.array(kept, np.int64)


@dataclass(frozen=True)
class Matched:
    """One class in one image. scores: float64 [m] of what was found, falling. right, counts: bool [10, m] for
    each overlap, whether a box is matched, and whether it counts. there: boxes to be found."""

    scores: np.ndarray
    right: np.ndarray
    counts: np.ndarray
    there: int


def match(found: np.ndarray, scores: np.ndarray, there: np.ndarray, crowd: np.ndarray) -> Matched:
    """found: [m, 4] with scores [m]; there: [k, 4], bool [k] around crowds, which match any number."""
    order = np.argsort(-scores, kind="stable")[:MOST]
    found, scores = found[order], scores[order]
    shared = overlap(found, there, crowd)
    right = np.zeros((len(OVERLAPS), len(found)), bool)
    counts, free = np.ones_like(right), np.ones((len(OVERLAPS), len(there)), bool)
    limit = OVERLAPS[:, None] - 1e-10
    for i in range(len(found) if len(there) else 0):
        fits = free & (shared[i] >= limit)
        single, many = fits & ~crowd, (fits & crowd).any(axis=1)
        right[:, i] = single.any(axis=1)
        # of equal overlaps the last, as COCO's loop has it
        best = len(there) - 1 - np.where(single, shared[i], -1.0)[:, ::-1].argmax(axis=1)
        free[right[:, i], best[right[:, i]]] = False
        counts[:, i] = right[:, i] | ~many
    return Matched(scores, right, counts, int((~crowd).sum()))


class Precision:
    """Average precision of one class, of any of the images.

    matched: one entry for each image.
    """

    def __init__(self, matched: Sequence[Matched]) -> None:
        scores = np.concatenate([one.scores for one in matched])
        order = np.argsort(-scores, kind="stable")
        image = np.repeat(np.arange(len(matched)), [len(one.scores) for one in matched])
        self._image = image[order]
        self._right = np.concatenate([one.right & one.counts for one in matched], axis=1)[:, order]
        self._wrong = np.concatenate([~one.right & one.counts for one in matched], axis=1)[:, order]
        self._there = np.array([one.there for one in matched])

    def of(self, images: np.ndarray) -> np.ndarray:
        """float64 [10], at each overlap, of the images that bool [n] names; NaN where nothing is there."""
        there = int(self._there[images].sum())
        if not there:
            return np.full(len(OVERLAPS), np.nan)
        used = images[self._image]
        right = np.cumsum(self._right & used, axis=1)
        wrong = np.cumsum(self._wrong & used, axis=1)
        precision = right / np.maximum(right + wrong, np.finfo(np.float64).eps)
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        padded = np.concatenate([precision, np.zeros((len(precision), 1))], axis=1)
        places = [np.searchsorted(row / there, RECALLS, side="left") for row in right]
        return np.array([row[place].mean() for row, place in zip(padded, places, strict=True)])
