"""From what calibration saw to a grid: min-max, percentile, least squares, plain or weighted.

Least squares is the L2 criterion of "Data-Free Quantization" / "Up or Down?" style range setting
(Nagel et al., "A White Paper on Neural Network Quantization", arXiv 2106.08295, section 2.3),
with asymmetric ranges searched end by end. Weighted by the squared gradients of the network's outputs
(calibrate.py), it is the first-order estimate of the error that the rounding makes there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from subbyte.quant import QParams, qparams_from_range
from subbyte.quantize.histogram import Histogram
from subbyte.recipes import ActivationRange

Function = Callable[[np.ndarray], np.ndarray]

#: What the search tries first: all pairs of these shares of the lower and the upper end.
LOW_SHARES = np.geomspace(1.0, 0.01, 20)
HIGH_SHARES = np.geomspace(1.0, 0.05, 30)
#: Then, alternately, this many positions of each end around the best, ever closer.
CANDIDATES = 17
WIDTHS = (0.15, 0.06, 0.02, 0.008)


def choose_grid(
    seen: Histogram, spec: ActivationRange, bits: int, function: Function | None = None
) -> QParams:
    """The grid of `bits` bits for values distributed like `seen`.

    function: what is applied to the values next; "mse" and "fisher" then measure the error behind it.
    """
    if seen.limit == 0.0:
        return qparams_from_range(0.0, 0.0, bits)
    if spec.range == "minmax":
        return qparams_from_range(seen.low, seen.high, bits)
    if spec.range == "percentile":
        tail = (1.0 - spec.percentile / 100.0) / 2.0
        return qparams_from_range(seen.quantile(tail), seen.quantile(1.0 - tail), bits)
    found = least_squares_range(seen, bits, function or (lambda x: x), weighted=spec.range == "fisher")
    return qparams_from_range(*found, bits)


def least_squares_range(
    seen: Histogram, bits: int, function: Function, *, weighted: bool = False
) -> tuple[float, float]:
    """The (low, high) within what was seen whose grid has the least Σ w · (f(x̂) − f(x))².

    weighted: w are the weights of `seen`, else 1.
    """
    points, counts = seen.points(weighted=weighted)
    exact = function(points)

    def best(lows: np.ndarray, highs: np.ndarray) -> int:
        rounded = function(_rounded(points, lows, highs, bits))
        return int(np.argmin(((rounded - exact) ** 2 * counts).sum(axis=1)))

    limits = min(seen.low, 0.0), max(seen.high, 0.0)
    lows = limits[0] * (LOW_SHARES if limits[0] < 0.0 else np.ones(1))
    highs = limits[1] * (HIGH_SHARES if limits[1] > 0.0 else np.ones(1))
    pairs = np.stack([ends.ravel() for ends in np.meshgrid(lows, highs)])
    ends = pairs[:, best(pairs[0], pairs[1])]
    for width in WIDTHS:
        for end in (0, 1):
            if limits[end] == 0.0:
                continue
            tried = np.repeat(ends[:, None], CANDIDATES, axis=1)
            tried[end] *= np.linspace(1.0 - width, 1.0 + width, CANDIDATES)
            tried = np.clip(tried, limits[0], limits[1])
            ends = tried[:, best(tried[0], tried[1])]
    return float(ends[0]), float(ends[1])


def _rounded(points: np.ndarray, lows: np.ndarray, highs: np.ndarray, bits: int) -> np.ndarray:
    """points [P] on the grids of K ranges: float64 [K, P]. Scales are not rounded to float32."""
    qmax = (1 << bits) - 1
    scale = np.maximum((highs - lows) / qmax, 1e-30)[:, None]
    zero = np.clip(np.rint(-lows[:, None] / scale), 0, qmax)
    codes = np.clip(np.rint(points / scale), -zero, qmax - zero)
    rounded: np.ndarray = codes * scale
    return rounded
