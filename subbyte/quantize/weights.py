"""Code books and scales of weights, one scale per output channel, and rounding to nearest on them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from subbyte.quant import Format, QParams, QTensor, uniform_levels
from subbyte.quant.bias import ALONE, LARGEST_ROUNDED
from subbyte.quant.pattern import DENSE
from subbyte.recipes import WeightRange

#: Scales that "mse" tries per channel: these shares of the min-max scale, then of the best of them.
SHARES = np.concatenate([np.linspace(0.2, 0.68, 25), np.linspace(0.7, 1.1, 41)])
CLOSER = np.linspace(0.99, 1.01, 21)
#: Rounds of Lloyd's algorithm for a learned code book.
LLOYD_ROUNDS = 60


def quantized_weight(
    weight: np.ndarray,
    bias: np.ndarray,
    x: QParams,
    format: Format,
    spec: WeightRange,
    scales: np.ndarray | None = None,
) -> QTensor:
    """float32 [O, ...] to codes, rounded to nearest, with code book and scales by `spec`, or `scales`,
    float32 [O]; those that the format's pattern leaves out become zero.

    bias (float32 [O]) and x, the grid of the layer's input, keep scales of channels that are
    almost zero large enough for the bias to fit its accumulator.
    """
    if format.pattern.mask is not None:
        weight = np.where(format.pattern.mask(weight), weight, np.float32(0.0))
    real = torch.from_numpy(np.ascontiguousarray(weight.reshape(len(weight), -1), np.float32))
    levels = code_book(real, format, spec.levels)
    scale = weight_scales(real, levels, spec.range) if scales is None else scales.astype(np.float64)
    empty = scale == 0.0
    # a channel without weights needs a unit only for its bias
    scale[empty] = np.where(bias == 0.0, 1.0, np.abs(bias) / (x.scale * ALONE))[empty]
    floor = np.maximum(np.abs(bias) / (x.scale * LARGEST_ROUNDED), np.finfo(np.float32).tiny * 2.0)
    scale = np.maximum(scale, floor).astype(np.float32)
    values = nearest_level(real / torch.from_numpy(scale)[:, None], usable(levels))
    codes = codes_of(values.numpy(), levels).reshape(weight.shape)
    return QTensor(codes, scale, format.with_book(levels), levels)


def code_book(real: Tensor, format: Format, kind: str) -> np.ndarray:
    """int8 [2**bits] levels for weights [O, K]: see recipes.WeightRange."""
    bits = format.bits
    if kind == "uniform" or bits == 8 or format.pattern != DENSE:
        return uniform_levels(bits)
    if kind == "symmetric":
        return (2 * np.arange(1 << bits) - ((1 << bits) - 1)).astype(np.int8)
    return lloyd_levels(real, bits)


def lloyd_levels(real: Tensor, bits: int) -> np.ndarray:
    """The int8 levels with the least squared error on rows scaled to equal power.

    Lloyd, "Least squares quantization in PCM" (IEEE Trans. Inf. Theory 28, 1982): from quantiles,
    alternately thresholds half way between levels and levels at the means between thresholds.
    The largest becomes 127.
    """
    power = real.square().mean(1, keepdim=True).sqrt()
    points = (real / power.clamp(min=1e-30))[power[:, 0] > 0.0].flatten().sort().values
    if len(points) == 0:
        return uniform_levels(bits)
    count = 1 << bits
    levels = torch.quantile(points[:: max(1, len(points) // 100_000)], (torch.arange(count) + 0.5) / count)
    sums = torch.cat([torch.zeros(1, dtype=torch.float64), points.double().cumsum(0)])
    for _ in range(LLOYD_ROUNDS):
        cuts = torch.searchsorted(points, (levels[1:] + levels[:-1]) / 2)
        ends = torch.cat([torch.zeros(1, dtype=torch.long), cuts, torch.tensor([len(points)])])
        sizes = ends.diff()
        means = (sums[ends].diff() / sizes.clamp(min=1)).float()
        levels = torch.where(sizes > 0, means, levels)
    scaled = torch.round(levels * (127.0 / levels.abs().max().clamp(min=1e-30)))
    return scaled.numpy().astype(np.int8)


def nearest_level(steps: Tensor, levels: np.ndarray) -> Tensor:
    """Each of `steps`, float32, replaced by the nearest of `levels`; half to even if they are consecutive."""
    grid = np.unique(levels).astype(np.float32)
    if len(grid) == grid[-1] - grid[0] + 1:
        return steps.round().clamp_(float(grid[0]), float(grid[-1]))
    table = torch.from_numpy(grid).to(steps.device)
    return table[torch.bucketize(steps, (table[1:] + table[:-1]) / 2)]


def codes_of(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """uint8 codes whose levels are `values`, integers that all occur in `levels`."""
    index = np.zeros(256, np.uint8)
    index[levels.astype(np.int16) + 128] = np.arange(len(levels), dtype=np.uint8)
    return index[values.astype(np.int16) + 128]


def usable(levels: np.ndarray) -> np.ndarray:
    """The levels that rounding may use: 8-bit weights stay symmetric."""
    return levels[levels > -128]


def weight_scales(real: Tensor, levels: np.ndarray, method: str) -> np.ndarray:
    """float64 [O]: the scale of each row of weights [O, K]; 0 for a row of zeros."""
    grid = usable(levels)
    low, high = float(grid.min()), float(grid.max())
    covering = torch.maximum(real.amax(1) / high, real.amin(1) / low)
    if method == "minmax":
        return covering.double().numpy()
    best, error = covering.clone(), torch.full_like(covering, float("inf"))
    for shares in (SHARES, CLOSER):
        around = best.clone()
        for share in shares:
            scale = around * float(share)
            divisor = scale.clamp(min=1e-30)[:, None]
            tried = nearest_level(real / divisor, grid).mul_(divisor).sub_(real).square_().sum(1)
            better = tried < error
            best, error = torch.where(better, scale, best), torch.where(better, tried, error)
    return best.double().numpy()
