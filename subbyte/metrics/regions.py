"""Classes of pixels beside those that should be there: intersection over union."""

from __future__ import annotations

import numpy as np


def overlaps(found: np.ndarray, there: np.ndarray, classes: int) -> np.ndarray:
    """int64 [2, classes]: pixels of each class that both have, and that either has.

    found, there: integers of one shape, below `classes`.
    """
    pairs = np.bincount(there.ravel().astype(np.int64) * classes + found.ravel(), minlength=classes**2)
    table = pairs.reshape(classes, classes)
    both = np.diagonal(table)
    return np.stack([both, table.sum(axis=0) + table.sum(axis=1) - both])


def mean_overlap(counts: np.ndarray) -> float:
    """Mean intersection over union of the classes that occur on either side, of `overlaps` or a sum of them;
    NaN if none does (Everingham et al. 2015, IJCV 111:98)."""
    both, either = counts
    present = either > 0
    return float((both[present] / either[present]).mean()) if present.any() else float("nan")
