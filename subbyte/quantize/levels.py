"""Fits the levels of an activation to what calibration saw: which bytes of an 8-bit grid occur."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from subbyte.execute.reference import activation_function
from subbyte.ir import OPS, Node, is_weighted
from subbyte.quant import QParams, qparams_from_range
from subbyte.quantize.histogram import Histogram
from subbyte.quantize.prepare import pre_value

#: Of the lower, then of the upper end of what was seen: where the grid may end.
SHARES = np.geomspace(1.0, 0.01, 20)[1:]
#: How often the grid is drawn closer around the levels that were found on it.
PASSES = 4


def can_make_levels(node: Node) -> bool:
    """Whether the quantized form of a float node can end with a table, which levels come out of."""
    return len(node.inputs) == 1 and "table" in OPS[node.op].optional


def fitted_grid(makers: Iterable[Node], bits: int, seen: Mapping[str, Histogram]) -> QParams:
    """A grid with 2**bits levels for what these nodes of a float graph make together.

    Each value counts as often as calibration saw it, in the bins of what the node's function is applied to.
    """
    points, counts = [], []
    for node in makers:
        before, count = seen[pre_value(node) if is_weighted(node) else node.inputs[0]].points()
        points.append(activation_function(node.attrs["act"])(before))
        counts.append(count)
    return fitted_levels(np.concatenate(points), np.concatenate(counts), bits)


def fitted_levels(points: np.ndarray, counts: np.ndarray, bits: int) -> QParams:
    """The grid with 2**bits levels that has the least Σ counts · (nearest level − point)² of those tried.

    points: float64 [P]; counts: how often each occurs. One level is zero. On a given 8-bit grid the levels
    are the best that there are: found by dynamic programming over its codes (Bruce, "Optimum quantization",
    MIT RLE technical report 429, 1965), where Lloyd's algorithm stops at the nearest minimum, which is 2 dB
    worse behind the SiLUs of EfficientNetV2-B0 (docs/log.md). Grids cover all points or, end by end, a share
    of their range; the best one is then drawn closer around its levels.
    """
    if not points.any():
        return QParams(1.0, 0, bits, tuple(range(1 << bits)))
    order = np.argsort(points)
    points, weights = points[order], counts[order].astype(np.float64)

    def tried(ends: list[float]) -> tuple[float, list[float], QParams]:
        grid = qparams_from_range(ends[0], ends[1], 8)
        levels, error = _best_levels(points / grid.scale + grid.zero_point, weights, grid.zero_point, bits)
        return error * grid.scale**2, ends, QParams(grid.scale, grid.zero_point, bits, levels)

    best = tried([min(float(points[0]), 0.0), max(float(points[-1]), 0.0)])
    for end in (0, 1):
        whole = best[1]
        for share in SHARES if whole[end] else ():
            ends = [*whole]
            ends[end] *= float(share)
            best = min(best, tried(ends), key=lambda found: found[0])
    for _ in range(PASSES):
        q = best[2]
        best = min(best, tried([q.low - q.scale, q.high + q.scale]), key=lambda found: found[0])
    return best[2]


def _best_levels(
    points: np.ndarray, weights: np.ndarray, zero: int, bits: int
) -> tuple[tuple[int, ...], float]:
    """The 2**bits codes, `zero` among them, with the least weighted squared distance to points in units of
    codes, ascending; and that distance."""
    sums = [np.concatenate([[0.0], np.cumsum(weights * points**power)]) for power in range(3)]
    code = np.arange(256)

    def errors(begin: np.ndarray, end: np.ndarray, level: np.ndarray) -> np.ndarray:
        """Of the points number begin .. end - 1 from a level."""
        count, first, second = (total[end] - total[begin] for total in sums)
        return second - 2.0 * level * first + level**2 * count  # type: ignore[no-any-return]

    below = np.searchsorted(points, np.arange(511) / 2)  # how many points lie below each half code
    i, j = code[:, None], code[None, :]
    middle = below[i + j]
    between = errors(below[2 * i], middle, i) + errors(middle, below[2 * j], j)
    between[(i >= j) | ((i < zero) & (zero < j))] = np.inf
    least = np.where(code <= zero, errors(np.zeros_like(code), below[2 * code], code), np.inf)
    after = np.where(code >= zero, errors(below[2 * code], np.full_like(code, len(points)), code), np.inf)
    before = []  # per level after the first: the best level before it, by code
    for _ in range((1 << bits) - 1):
        errors_to = least[:, None] + between
        before.append(errors_to.argmin(0))
        least = errors_to.min(0)
    levels = [int((least + after).argmin())]
    for link in reversed(before):
        levels.append(int(link[levels[-1]]))
    return tuple(reversed(levels)), float((least + after).min())
