"""mixup (arXiv 1710.09412) of neighbours in the batch: images 2k and 2k + 1 are mixed with each other, by a
share of their own, so that each process that holds whole pairs does what one process would do.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from subbyte.training.views import PAIR, generator


def shares(seed: int, step: int, batch: int, alpha: float) -> Tensor:
    """How much of each image of a batch stays, float32 [batch], 0..1; equal for both of a pair."""
    if not alpha:
        return torch.ones(batch)
    drawn = generator(seed, PAIR, step).beta(alpha, alpha, batch // 2)
    return torch.from_numpy(drawn).to(torch.float32).repeat_interleave(2)


def swapped(x: Tensor) -> Tensor:
    """[2n, ...] with both of each pair in each other's place."""
    return x.reshape(-1, 2, *x.shape[1:]).flip(1).reshape(x.shape)


def mixed(x: Tensor, share: Tensor) -> Tensor:
    """share x + (1 - share) (the other one of its pair), for x [2n, C, H, W] and share [2n]."""
    s = share.view(-1, 1, 1, 1).to(x.dtype)
    return (s * x + (1 - s) * swapped(x)).contiguous(memory_format=torch.channels_last)


def label_loss(logits: Tensor, labels: Tensor, share: Tensor, smoothing: float) -> Tensor:
    """Cross entropy with both labels of a mixed image by their shares, nats, mean over images. labels: int64
    [2n]."""
    own = F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    other = F.cross_entropy(logits, swapped(labels), reduction="none", label_smoothing=smoothing)
    return (share * own + (1 - share) * other).mean()
