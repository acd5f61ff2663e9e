"""Scores that are no mean over images, such as mean average precision, written as one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: Images are left out in at most so many groups: the score is computed once for each.
GROUPS = 500


def pseudo_values(score: Callable[[np.ndarray], float], n: int) -> np.ndarray:
    """float64 [n] whose mean is the score of n images: what each adds to it, as leaving it out shows.

    score: of bool [n], the images that count; NaN where these have none. Tukey's pseudo-values (Miller 1974,
    Biometrika 61:1) without their correction of bias, so that the mean is the score itself; their variance
    over n is the jackknife's estimate of its variance. Of more than GROUPS images, groups are left out.
    """
    whole, groups = score(np.ones(n, bool)), min(n, GROUPS)
    if groups < 2:
        return np.full(n, whole)
    member = np.arange(n) % groups
    without = np.array([score(member != group) for group in range(groups)])
    without[np.isnan(without)] = whole
    gain = -(groups - 1) * without[member]
    return np.asarray(whole + gain - gain.mean())
