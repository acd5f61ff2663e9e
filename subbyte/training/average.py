"""The exponential moving average of a network: of its weights, and of its batch norms' statistics with
them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Average:
    """module: a copy of the network in eval mode that follows it, step by step."""

    def __init__(self, module: nn.Module) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    def follow(self, module: nn.Module, decay: float, step: int) -> None:
        """One step, from 0: average += (1 - d)(network - average) with d = min(decay, (1 + step) / (10 +
        step)), so that the first steps are forgotten. Integers are copied."""
        share = 1.0 - min(decay, (1.0 + step) / (10.0 + step))
        pairs = list(zip(_tensors(self.module), _tensors(module), strict=True))
        real = [(mine, theirs) for mine, theirs in pairs if mine.is_floating_point()]
        with torch.no_grad():
            torch._foreach_lerp_([mine for mine, _ in real], [theirs for _, theirs in real], share)
            for mine, theirs in pairs:
                if not mine.is_floating_point():
                    mine.copy_(theirs)


def _tensors(module: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*module.parameters(), *module.buffers())]
