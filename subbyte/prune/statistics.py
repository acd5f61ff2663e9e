"""What a layer's weights are chosen by: sums over what it reads and should make, on calibration images."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from subbyte.execute.torch.step import window
from subbyte.ir import Node
from subbyte.prune.layout import Layout
from subbyte.prune.second_order import Quadratic

#: Memory for the Hessians of a layer's outputs, which share them where there are more.
HESSIAN_BYTES = 1 << 27
#: Outputs that share one, at least: errors of neighbours in a panel are weighted alike.
SHARED = 16
#: Weight of an error where the activation is flat.
FLAT = 1e-4


class Statistics:
    """Sums of a conv2d with one group, or linear, over rows x (what one output position reads, and 1) and y
    (what should be made there, before activation and residual).

    weighted: rows count by how much the activation function lets of an error through, f'(y)², on average over
    the outputs that share a Hessian.
    """

    def __init__(self, node: Node, layout: Layout, *, weighted: bool) -> None:
        self.node, self.layout = node, layout
        shape = np.shape(node.params["weight"])
        taps, along = layout.columns(shape)
        self.size = taps * along * layout.inputs + 1
        self.panels = layout.panels(shape)
        self.weighted = weighted and node.attrs["act"] != "none"
        self.together = self._together()
        groups = -(-self.panels // self.together)
        self.hessian = torch.zeros(groups, self.size, self.size, dtype=torch.float64)
        self.right = torch.zeros(self.panels * layout.outputs, self.size, dtype=torch.float64)
        self.power = torch.zeros(self.panels * layout.outputs, dtype=torch.float64)
        self.rows = 0

    def _together(self) -> int:
        """Panels that share a Hessian."""
        if not self.weighted:
            return self.panels
        most = max(1, HESSIAN_BYTES // (8 * self.size * self.size))
        return max(-(-SHARED // self.layout.outputs), -(-self.panels // most))

    def add(self, x: Tensor, y: Tensor, slopes: Tensor, most: int, generator: torch.Generator) -> None:
        """Takes what the layer reads into account, with what it should make and f' there: float32
        [N, C, H, W] or [N, C]; of all output positions `most`, drawn at random."""
        rows, wanted, slope = _rows(self.node, x, self.layout), _positions(y), _positions(slopes)
        if len(rows) > most:
            chosen = torch.randperm(len(rows), generator=generator)[:most]
            rows, wanted, slope = rows[chosen], wanted[chosen], slope[chosen]
        self.rows += len(rows)
        rows = torch.cat([rows, rows.new_ones(len(rows), 1)], 1)
        width = self.together * self.layout.outputs
        for group, begin in enumerate(range(0, wanted.shape[1], width)):
            part, scaled = wanted[:, begin : begin + width], rows
            if self.weighted:
                weight = slope[:, begin : begin + width].square().mean(1, keepdim=True) + FLAT
                scaled = rows * weight
            self.power[begin : begin + part.shape[1]] += scaled[:, -1] @ part.square()
            self.hessian[group] += scaled.mT @ rows
            self.right[begin : begin + part.shape[1]] += part.mT @ scaled

    def norms(self) -> np.ndarray:
        """Mean square of what each weight is multiplied with, float64 [O, ..., I]."""
        shape = np.shape(self.node.params["weight"])
        taps, _ = self.layout.columns(shape)
        each = torch.diagonal(self.hessian, dim1=1, dim2=2).mean(0)[:-1] / max(1, self.rows)
        inputs = each.view(taps, -1)[:, : shape[-1]]
        return np.broadcast_to(inputs.numpy().reshape(shape[1:]), shape)

    def quadratic(self, damping: float, importance: np.ndarray | None, *, own: bool) -> Quadratic:
        """The error of the layer, and, so that it has one least, `damping` times the mean of the Hessian's
        diagonal times the squared distance of weights from what they are.

        importance: float64 [O], what an output's error counts. own: what should be made is what the layer
        would make of the same inputs as it is, not what was `add`ed.
        """
        layout, weight = self.layout, np.asarray(self.node.params["weight"], np.float64)
        gathered = torch.from_numpy(layout.gathered(weight)).flatten(0, 1)  # [P * outputs, K - 1]
        bias = np.zeros(len(gathered))
        bias[: len(weight)] = np.asarray(self.node.params["bias"])
        start = torch.cat([gathered, torch.from_numpy(bias)[:, None]], 1)
        there = self._there()
        hessian, right = self.hessian.clone(), self.right.clone()
        width = self.together * layout.outputs
        for group in range(len(hessian)):
            own_rows = slice(group * width, (group + 1) * width)
            square, w = hessian[group], start[own_rows]
            if own:
                right[own_rows] = w @ square
            mean = float(square.diagonal()[:-1][there].mean())
            damp = torch.full((self.size,), damping * mean if mean > 0.0 else 1.0, dtype=torch.float64)
            damp[:-1][~there] = mean if mean > 0.0 else 1.0
            damp[-1] = 0.0 if self.rows and float(square[-1, -1]) > 0.0 else 1.0
            square.diagonal().add_(damp)
            right[own_rows] += w * damp
        counts = torch.zeros(len(start), dtype=torch.float64)
        counts[: len(weight)] = 1.0 if importance is None else torch.from_numpy(np.asarray(importance))
        panels = (self.panels, layout.outputs)
        return Quadratic(hessian, self.together, right.view(*panels, -1), counts.view(panels))

    def rescaled(self, weight: Tensor) -> Tensor:
        """Weights [P, outputs, K] times a factor for each output, with biases, so that outputs have the means
        and variances, on the rows seen, that they should have.

        A least-squares estimate has less variance than what it estimates; layer after layer that adds up
        (REPAIR, arXiv 2211.08403, resets the statistics of merged networks in this way).
        """
        found = weight.flatten(0, 1).clone()
        width = self.together * self.layout.outputs
        for group, square in enumerate(self.hessian):
            rows = slice(group * width, (group + 1) * width)
            w, total = found[rows], square[-1, -1].clamp(min=1e-300)
            wanted, mean = self.right[rows, -1] / total, w @ square[-1] / total
            target = self.power[rows] / total - wanted.square()
            variance = ((w @ square) * w).sum(1) / total - mean.square()
            usable = (variance > 1e-9 * target) & (target > 0.0)
            factor = torch.where(usable, (target / variance).clamp(min=0.0).sqrt(), 1.0)
            w[:, :-1] *= factor[:, None]
            w[:, -1] = (w[:, -1] - mean) * factor + wanted
        return found.view_as(weight)

    def _there(self) -> Tensor:
        """Which columns are inputs of the layer, and not there to fill up: bool [K - 1]."""
        shape = np.shape(self.node.params["weight"])
        taps, along = self.layout.columns(shape)
        inside: Tensor = torch.arange(along * self.layout.inputs) < shape[-1]
        return inside.repeat(taps)

    def node_of(self, weight: Tensor) -> Node:
        """The layer with weights [P, outputs, K]: what `gathered` gathers, and the bias."""
        shape = np.shape(self.node.params["weight"])
        taps, _ = self.layout.columns(shape)
        rows = weight.flatten(0, 1)[: shape[0]].numpy()
        inner = rows[:, :-1].reshape(shape[0], taps, -1)[:, :, : shape[-1]].reshape(shape)
        params = {"weight": inner.astype(np.float32), "bias": rows[:, -1].astype(np.float32)}
        return self.node.with_(params={**self.node.params, **params})


def _positions(y: Tensor) -> Tensor:
    """[N, C, H, W] or [N, C] as [positions, C]."""
    return y.permute(0, 2, 3, 1).reshape(-1, y.shape[1]) if y.ndim == 4 else y


def _rows(node: Node, x: Tensor, layout: Layout) -> Tensor:
    """What each output position reads, in the columns of `layout`: float32 [positions, K - 1]."""
    shape = np.shape(node.params["weight"])
    more = -shape[-1] % layout.unit
    if x.ndim == 2:
        return F.pad(x, (0, more))
    x, stride, padding, _ = window(node, x)
    kernel = (shape[1], shape[2])
    if kernel == (1, 1) and padding == [0, 0]:
        return F.pad(_positions(x[:, :, :: stride[0], :: stride[1]]), (0, more))
    columns = F.unfold(x, kernel, padding=tuple(padding), stride=tuple(stride))  # [N, C * taps, positions]
    taps = math.prod(kernel)
    split = columns.view(len(x), shape[-1], taps, -1).permute(0, 3, 2, 1)
    return F.pad(split, (0, more)).reshape(-1, taps * (shape[-1] + more))
