"""Scales of weights, one per output channel, and rounding to nearest on them."""

from __future__ import annotations

import numpy as np
import torch

from subbyte.quant import QParams, QTensor, quantize_weight
from subbyte.recipes import WeightRange

#: Scales that "mse" tries per channel: these shares of the min-max scale, then of the best of them.
SHARES = np.concatenate([np.linspace(0.2, 0.68, 25), np.linspace(0.7, 1.1, 41)])
CLOSER = np.linspace(0.99, 1.01, 21)
#: Largest |bias| in accumulator units that a scale has to leave room for.
BIAS_UNITS = float(1 << 28)


def quantized_weight(
    weight: np.ndarray, bias: np.ndarray, x: QParams, bits: int, spec: WeightRange
) -> QTensor:
    """float32 [O, ...] to codes, rounded to nearest, with scales by `spec`.

    bias (float32 [O]) and x, the grid of the layer's input, keep scales of channels that are
    almost zero large enough for the bias to fit its accumulator.
    """
    scale = weight_scales(weight, bits, spec.range)
    empty = scale == 0.0
    # a channel without weights needs a unit only for its bias
    scale[empty] = np.where(bias == 0.0, 1.0, np.abs(bias) / (x.scale * (1 << 20)))[empty]
    floor = np.maximum(np.abs(bias) / (x.scale * BIAS_UNITS), np.finfo(np.float32).tiny * 2.0)
    return quantize_weight(weight, np.maximum(scale, floor).astype(np.float32), bits)


def weight_scales(weight: np.ndarray, bits: int, method: str) -> np.ndarray:
    """float64 [O]: the scale of each channel of weight [O, ...]; 0 for a channel of zeros."""
    flat = torch.from_numpy(weight.reshape(len(weight), -1).astype(np.float32))
    half = float(1 << (bits - 1))
    low = -half + 1 if bits == 8 else -half
    covering = torch.maximum(flat.amax(1) / (half - 1), flat.amin(1) / low)
    if method == "minmax":
        return covering.double().numpy()
    best, error = covering.clone(), torch.full_like(covering, float("inf"))
    for shares in (SHARES, CLOSER):
        around = best.clone()
        for share in shares:
            scale = around * float(share)
            divisor = scale.clamp(min=1e-30)[:, None]
            rounded = (flat / divisor).round_().clamp_(low, half - 1).mul_(divisor)
            tried = rounded.sub_(flat).square_().sum(1)
            better = tried < error
            best, error = torch.where(better, scale, best), torch.where(better, tried, error)
    return best.double().numpy()
