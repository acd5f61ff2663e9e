"""Rounds a layer's weights one input after the other, those that are not rounded yet making up for it.

The error Σ (w·x − y)² of an output is quadratic in its weights w, with the Hessian H = Σ x·xᵀ that all
outputs of the layer share. Rounding weight k to q moves the others, so that the error is least, by

    w ← w − (w_k − q) / U_kk · U_k:,    U the upper Cholesky factor of H⁻¹ of the weights that are left

("GPTQ", arXiv 2210.17323, from Optimal Brain Surgeon, Hassibi and Stork, 1992). Inputs of the most power come
first. Biases take no part: H and y are centred, so that each error is that behind the best bias.

Then each output's scale becomes the one of the least error of its codes, and rounding begins anew on it:
scales that fit weights best are not those that fit what the layer makes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from subbyte.quantize.weights import nearest_level

#: Columns whose errors are passed on to the others together.
BLOCK = 64
#: How far fitted scales may be from those of rounding to nearest: a sum that images leave open is no reason
#: to leave them.
FARTHEST = 2.0


def rounded(
    weight: Tensor,
    hessian: Tensor,
    scale: Tensor,
    levels: np.ndarray,
    *,
    fits: int,
    kept: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Values of `levels`, float64 [O, K], and scales, float64 [O].

    weight: float64 [O, K], what is rounded. hessian: float64 [K, K], positive definite. scale: float64 [O],
    positive, to begin with. levels: integers. fits: how often scales are fitted; before each time
    all is rounded on those of the time before. kept: bool [O, K], elsewhere values are 0; None: nowhere.
    """
    order = hessian.diagonal().argsort(descending=True, stable=True)
    upper = _upper(hessian[order][:, order])
    chosen = None if kept is None else kept[:, order]
    first = scale
    back = order.argsort()
    for fit in range(max(1, fits)):
        values = _one_by_one((weight / scale[:, None])[:, order], upper, levels, chosen)[:, back]
        if fit < fits:
            scale = _fitted(values, weight, hessian, first)
    return values, scale


def _upper(hessian: Tensor) -> Tensor:
    """Row k is, over its first entry, by how much less the others become, per unit of weight k's error."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    upper: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return upper


def _one_by_one(steps: Tensor, upper: Tensor, levels: np.ndarray, kept: Tensor | None) -> Tensor:
    """Weights in units of their scales, [O, K], as levels; columns in the order of rounding."""
    left, values = steps.clone(), torch.zeros_like(steps)
    for begin in range(0, steps.shape[1], BLOCK):
        end = min(begin + BLOCK, steps.shape[1])
        errors = torch.zeros_like(left[:, begin:end])
        for k in range(begin, end):
            value = nearest_level(left[:, k].float(), levels).double()
            if kept is not None:
                value = torch.where(kept[:, k], value, 0.0)
            values[:, k] = value
            error = (left[:, k] - value) / upper[k, k]
            left[:, k:end] -= error[:, None] * upper[k, k:end]
            errors[:, k - begin] = error
        left[:, end:] -= errors @ upper[begin:end, end:]
    return values


def _fitted(values: Tensor, weight: Tensor, hessian: Tensor, first: Tensor) -> Tensor:
    """Of each output the scale s of the least error of s · values; `first` where that is far from it."""
    through = values @ hessian
    own = (through * values).sum(1)
    fitted = (through * weight).sum(1) / torch.where(own > 0.0, own, 1.0)
    near = (own > 0.0) & (fitted * FARTHEST > first) & (fitted < FARTHEST * first)
    return torch.where(near, fitted, first)
