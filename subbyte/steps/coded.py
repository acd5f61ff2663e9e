"""What codes in training take up in an entropy coder, so that training does not spend bits that it need not.

Latent weights that follow noisy gradients spread, and spread codes take more bits. A code's bits are the
negative logarithm of how often it occurs; here by what occurred in its layer when training began, and linear
between neighbouring codes, so that gradients follow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from subbyte.quant import QTensor
from subbyte.quant.entropy import histogram
from subbyte.quant.format import INT8

#: Of a code that does not occur, in occurrences.
UNSEEN = 0.25
#: A bit more for each weight divides rounding's squared error by four: d(error)/d(bits) = -2 ln 2 · error.
EXCHANGE = 2.0 * math.log(2.0)


class CodedBits:
    """weights: dense ones of 8 bits, by layer; others do not count."""

    def __init__(self, weights: Mapping[str, QTensor]) -> None:
        self.costs: dict[str, Tensor] = {}
        self.start, self.count = 0.0, 0
        for name, weight in weights.items():
            if weight.format != INT8:
                continue
            counts = histogram(weight.codes, 8).sum(0)
            cost = -np.log2((counts + UNSEEN) / (counts.sum() + UNSEEN * len(counts)))
            self.start += float((counts * cost).sum())
            self.count += int(counts.sum())
            self.costs[name] = torch.from_numpy(cost.astype(np.float32))

    def more(self, steps: Mapping[str, Tensor]) -> Tensor:
        """By how many bits a weight takes more than in the beginning, in the mean, 0-dim.

        steps: latent weights in steps of their scales, by layer; all that were given at first.
        """
        total = torch.zeros(())
        for name, cost in self.costs.items():
            place = (steps[name] + 128.0).clamp(0.0, 254.999)
            low = place.detach().floor()
            below, above = cost[low.long()], cost[low.long() + 1]
            total = total + (below + (above - below) * (place - low)).sum()
        return (total - self.start) / max(self.count, 1)
