"""How the channels of values are distributed, each for itself, in one pass and bounded memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import torch
from torch import Tensor

from subbyte.errors import InputError
from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph
from subbyte.quantize.calibrate import Progress

#: Of a channel's histogram, which is therefore right to a 128th of its largest magnitude.
BINS = 512


class Channels:
    """A histogram for each channel, BINS equal bins over [-limit, limit], and its mean square.

    A limit is a power of two and doubles when a number falls outside, merging bins in pairs, so that the
    counts do not depend on the order of what is added.
    """

    def __init__(self, channels: int) -> None:
        self.limit = torch.zeros(channels, dtype=torch.float64)
        self.counts = torch.zeros(channels, BINS, dtype=torch.int64)
        self.squares = torch.zeros(channels, dtype=torch.float64)
        self.count = 0

    def add(self, x: Tensor) -> None:
        """Counts x, finite float32 [N, C, H, W] or [N, C]."""
        rows = x.transpose(0, 1).reshape(x.shape[1], -1)
        self.squares += rows.double().square().sum(1)
        self.count += rows.shape[1]
        self._grow(rows.abs().amax(1).double())
        scale = torch.where(self.limit > 0.0, BINS / 2 / self.limit, 0.0).float()
        bins = (rows * scale[:, None] + BINS / 2).long().clamp_(0, BINS - 1)
        bins += torch.arange(len(rows))[:, None] * BINS
        self.counts += torch.bincount(bins.flatten(), minlength=self.counts.numel()).view_as(self.counts)

    def _grow(self, magnitude: Tensor) -> None:
        wanted = torch.where(magnitude > 0.0, torch.exp2(torch.ceil(torch.log2(magnitude))), 0.0)
        new = self.limit == 0.0
        # so far only zeros, which lie in the middle whatever the limit is
        self.limit = torch.where(new, wanted, self.limit)
        while (narrow := self.limit < wanted).any():
            merged = self.counts[narrow].view(-1, BINS // 2, 2).sum(2)
            self.counts[narrow] = torch.nn.functional.pad(merged, (BINS // 4, BINS // 4))
            self.limit[narrow] *= 2.0

    def ends(self, tail: float) -> tuple[np.ndarray, np.ndarray]:
        """float64 [C] each: the magnitude below zero and above it that all but the share `tail` of each
        channel's numbers keep to; 0 where there are none on that side."""
        totals = self.counts.sum(1, keepdim=True).double()
        below = self.counts.cumsum(1).double()
        edges = torch.linspace(-1.0, 1.0, BINS + 1, dtype=torch.float64)
        low = edges[(below <= tail * totals).sum(1)] * self.limit
        high = edges[1:][(below < (1.0 - tail) * totals).sum(1)] * self.limit
        return (-low).clamp(min=0.0).numpy(), high.clamp(min=0.0).numpy()

    @property
    def power(self) -> np.ndarray:
        """The mean square of each channel, float64 [C]."""
        return (self.squares / max(1, self.count)).numpy()


def channel_statistics(
    graph: Graph, names: Collection[str], batches: Iterable[np.ndarray], progress: Progress
) -> dict[str, Channels]:
    """Of the values called `names` of a float graph, in one pass over `batches`, float32 [N, H, W, C].

    Raises InputError if one of them becomes infinite or NaN.
    """
    seen = {name: Channels(graph.value(name).shape[-1]) for name in names}

    def visit(name: str, tensor: Tensor) -> None:
        if name not in seen:
            return
        if not torch.isfinite(tensor).all():
            raise InputError(
                f"the network makes NaN or infinity (in {name!r}) on a calibration image; "
                "check its weights and the preprocessing"
            )
        seen[name].add(tensor)

    state, done = torch_executor.state_of(graph), 0
    with torch.no_grad():
        for images in batches:
            torch_executor.forward(graph, torch_executor.nchw(images), state, visit=visit)
            done += len(images)
            progress("balance", done)
    return seen
