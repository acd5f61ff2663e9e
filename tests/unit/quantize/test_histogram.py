"""Histograms, ranges and weight scales against direct computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subbyte.execute.reference import activation_function
from subbyte.quant import (
    QParams,
    qparams_from_range,
    quantize_bias,
    quantize_weight,
    uniform_levels,
    weight_format,
)
from subbyte.quantize.histogram import BINS, SAMPLE, Histogram
from subbyte.quantize.ranges import choose_grid, least_squares_range
from subbyte.quantize.weights import SHARES, quantized_weight, weight_scales
from subbyte.recipes import ActivationRange, WeightRange


def histogram(*arrays: np.ndarray) -> Histogram:
    result = Histogram()
    for array in arrays:
        result.add(torch.from_numpy(array.astype(np.float32)), torch.Generator().manual_seed(0))
    return result


def test_counts_do_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=1000) * scale for scale in (0.01, 100.0, 1.0)]
    forward, backward = histogram(*parts), histogram(*parts[::-1])
    assert forward.limit == backward.limit
    assert forward.low == backward.low == min(p.astype(np.float32).min() for p in parts)
    assert forward.high == backward.high
    # a number within rounding of a bin's edge may fall on either side of it
    assert np.abs(np.cumsum(forward.counts) - np.cumsum(backward.counts)).max() <= 2
    assert forward.counts.sum() == 3000


def test_merging_equals_counting_together() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=500), rng.normal(size=500) * 50
    merged, together = histogram(a).merged(histogram(b)), histogram(b, a)
    assert (merged.limit, merged.low, merged.high) == (together.limit, together.low, together.high)
    assert np.abs(np.cumsum(merged.counts) - np.cumsum(together.counts)).max() <= 2


def test_large_tensors_are_sampled_but_their_extremes_are_exact() -> None:
    x = np.random.default_rng(2).normal(size=(2, 8, 250, 250)).astype(np.float32)
    x[1, 7, 249, 249] = 77.0
    seen = histogram(x)
    assert SAMPLE // 2 < seen.counts.sum() <= 2 * SAMPLE
    assert seen.high == 77.0
    assert seen.quantile(0.5) == pytest.approx(0.0, abs=0.05)


def test_quantiles() -> None:
    values = np.random.default_rng(3).normal(size=100000)
    seen = histogram(values)
    for share in (0.0005, 0.1, 0.9, 0.9995):
        width = 2 * seen.limit / BINS
        assert seen.quantile(share) == pytest.approx(np.quantile(values, share), abs=width)
    assert histogram(np.zeros(5)).quantile(0.3) == 0.0


def mean_square_error(values: np.ndarray, q: QParams, f=lambda x: x) -> float:  # type: ignore[no-untyped-def]
    return float(((f(q.dequantize(q.quantize(values)).astype(float)) - f(values)) ** 2).mean())


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("act", ["none", "silu", "hard_swish"])
def test_least_squares_is_no_worse_than_an_exhaustive_search(bits: int, act: str) -> None:
    values = np.random.default_rng(4).standard_t(3, size=20000)
    f = activation_function(act)
    seen = histogram(values)
    chosen = mean_square_error(values, qparams_from_range(*least_squares_range(seen, bits, f), bits), f)
    best = min(
        mean_square_error(values, qparams_from_range(low * seen.low, high * seen.high, bits), f)
        for low in np.linspace(0.02, 1, 40)
        for high in np.linspace(0.02, 1, 40)
    )
    # bins are at least 16 to a step, so that the search sees errors to about (1 + 1/16**2)
    assert chosen <= best * 1.01
    assert chosen <= mean_square_error(values, qparams_from_range(seen.low, seen.high, bits), f)


def test_ranges_by_name() -> None:
    values = np.random.default_rng(5).normal(size=50000) + 1
    seen = histogram(values)
    covering = choose_grid(seen, ActivationRange(range="minmax"), 8)
    assert covering == qparams_from_range(seen.low, seen.high, 8)
    cut = choose_grid(seen, ActivationRange(range="percentile", percentile=99.0), 8)
    assert cut.high == pytest.approx(np.quantile(values, 0.995), abs=0.05)
    assert cut.low == pytest.approx(np.quantile(values, 0.005), abs=0.05)
    assert choose_grid(histogram(np.zeros(9)), ActivationRange(), 4) == QParams(1.0, 0, 4)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weight_scales(bits: int) -> None:
    weight = np.random.default_rng(6).standard_t(4, size=(5, 3, 3, 20)).astype(np.float32)
    weight[3] = 0.0
    rows = torch.from_numpy(weight.reshape(5, -1))
    covering, best = (weight_scales(rows, uniform_levels(bits), m) for m in ("minmax", "mse"))
    assert covering[3] == best[3] == 0.0
    for channel in (0, 1, 2, 4):

        def error(scale: float, w: np.ndarray = weight[channel][None]) -> float:
            return float(
                (
                    (quantize_weight(w, np.array([scale], np.float32), weight_format(bits)).dequantize() - w)
                    ** 2
                ).sum()
            )

        assert error(best[channel]) <= error(covering[channel])
        assert error(best[channel]) <= min(error(s * covering[channel]) for s in SHARES) * (1 + 1e-6)
        half = 1 << (bits - 1)
        low = -half + 1 if bits == 8 else -half
        reach = weight[channel].min() / low, weight[channel].max() / (half - 1)
        assert covering[channel] == pytest.approx(max(reach), rel=1e-6)


def test_channels_that_are_almost_zero_keep_their_bias() -> None:
    weight = np.random.default_rng(7).normal(size=(3, 1, 1, 8)).astype(np.float32)
    weight[1] = 0.0
    weight[2] *= np.float32(1e-20)
    bias = np.array([0.1, -3.0, 5.0], np.float32)
    x = QParams(0.0625, 10, 8)
    for bits in (2, 4, 8):
        quantized = quantized_weight(weight, bias, x, weight_format(bits), WeightRange())
        units = quantize_bias(bias, x, quantized.scale) * x.scale * quantized.scale.astype(float)
        step = x.scale * quantized.scale.astype(float)
        assert (np.abs(units - bias) <= step).all()
        assert units[1:] == pytest.approx(bias[1:], rel=1e-5)
