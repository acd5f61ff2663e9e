"""Removes weights where a layer's output changes least, and moves the others so that it changes less still.

A layer of weights w reads x and should make y. Its error Σ (w·x − y)² is quadratic in w with the Hessian
H = Σ x·xᵀ, so that what it rises by when a block B of an output's weights becomes zero, and all others are
moved as is best then, is known exactly, and so are the others:

    w_Bᵀ ([H⁻¹]_BB)⁻¹ w_B,    w ← w − [H⁻¹]_:B ([H⁻¹]_BB)⁻¹ w_B

(Optimal Brain Surgeon, Hassibi and Stork, 1992; for blocks and in layers "Optimal Brain Compression", arXiv
2208.11580). Outputs that share their mask, a panel, share H⁻¹ of what is left, too, so that blocks over
several outputs cost no more than one output's. As there, each panel is emptied for itself, and a layer then
takes the blocks of all panels that cost least.

The layer's bias is one more column, whose input is 1 and which always stays. Gradually: between rounds, each
of which takes a share of what there was, H⁻¹ and the weights become those of what is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from subbyte.prune.layout import Layout

#: Memory for the inverse Hessians of panels that are emptied together.
TRACE_BYTES = 1 << 28


@dataclass(frozen=True, eq=False)
class Quadratic:
    """The error of a layer's outputs as a function of its weights, that of output o being
    wᵀ H w − 2 wᵀ r_o and what no weights change, in the columns of a Layout (`gathered`), then the bias.

    hessian: float64 [G, K, K], positive definite, each of `together` consecutive panels, the last one of
    those that are left. right: float64 [P, outputs, K]. importance: float64 [P, outputs], what an output's
    error counts.
    """

    hessian: Tensor
    together: int
    right: Tensor
    importance: Tensor

    def best(self) -> Tensor:
        """The weights of the least error, nothing being zero: float64 [P, outputs, K]."""
        factors = torch.linalg.cholesky(self.hessian)
        which = (factors[p // self.together] for p in range(len(self.right)))
        return torch.stack([torch.cholesky_solve(r.mT, f).mT for r, f in zip(self.right, which, strict=True)])

    def rise(self, weight: Tensor) -> float:
        """The error of weights [P, outputs, K] beyond that of the best ones, all outputs together, each times
        its importance."""
        total = 0.0
        for p, moved in enumerate(weight - self.best()):
            each = ((moved @ self.hessian[p // self.together]) * moved).sum(1)
            total += float((each * self.importance[p]).sum())
        return total


def trace(quadratic: Quadratic, layout: Layout, rounds: int) -> np.ndarray:
    """What the error rises by when each block goes, others of its panel having gone before: float64
    [P, blocks]; never less than what went before it, so that those of the greatest stay.

    Where the layout keeps some of each group, the blocks that stay have infinity. rounds: in which a panel
    is emptied.
    """
    weight = quadratic.best()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(quadratic.hessian))
    count, size = len(weight), inverse.shape[-1]
    chunk = max(1, TRACE_BYTES // (8 * size * size))
    parts = []
    for begin in range(0, count, chunk):
        panels = torch.arange(begin, min(begin + chunk, count))
        emptied = _Emptied(
            inverse[panels // quadratic.together], weight[panels], quadratic.importance[panels], layout
        )
        parts.append(emptied.run(rounds))
    return torch.cat(parts).numpy()


class _Emptied:
    """Panels that lose their blocks: `inverse` [P, k, k] and `weight` [P, outputs, k] of what is left."""

    def __init__(self, inverse: Tensor, weight: Tensor, importance: Tensor, layout: Layout) -> None:
        self.inverse, self.weight, self.importance, self.layout = inverse, weight, importance, layout
        self.inputs = layout.inputs
        blocks = (inverse.shape[-1] - 1) // layout.inputs
        self.left = torch.arange(blocks).expand(len(weight), blocks)
        self.found = torch.full((len(weight), blocks), torch.inf, dtype=torch.float64)
        if layout.group:
            self.free = torch.full((len(weight), blocks // layout.group), layout.group - layout.most)
        self.level = torch.zeros(len(weight), 1, dtype=torch.float64)

    def run(self, rounds: int) -> Tensor:
        """What each block cost, by panel; infinity for those that are left."""
        layout, blocks = self.layout, self.left.shape[1]
        total = blocks if not layout.group else blocks // layout.group * (layout.group - layout.most)
        each = -(-total // rounds)
        while total:
            number = min(each, total)
            cost = self._cost()
            rank = self._allowed(cost) if layout.group else cost
            order = torch.sort(rank, dim=1, stable=True).indices[:, :number]
            self.level = torch.maximum(self.level, torch.gather(cost, 1, order)).cummax(1).values
            chosen = torch.gather(self.left, 1, order)
            self.found.scatter_(1, chosen, self.level)
            self.level = self.level[:, -1:]
            if layout.group:
                self.free.scatter_add_(1, chosen // layout.group, -torch.ones_like(chosen))
            total -= number
            if total:
                self._remove(order.sort(1).values)
        return self.found

    def _cost(self) -> Tensor:
        """What each block that is left would cost alone, [P, left]."""
        panels, left = self.left.shape
        wide = left * self.inputs
        square = self.inverse[:, :wide, :wide].view(panels, left, self.inputs, left, self.inputs)
        own = square.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)  # [P, left, inputs, inputs]
        w = self.weight[:, :, :wide].view(panels, -1, left, self.inputs).permute(0, 2, 3, 1)
        each: Tensor = torch.linalg.solve(own, w) * w * self.importance[:, None, None, :]
        return each.sum((2, 3))

    def _allowed(self, cost: Tensor) -> Tensor:
        """The costs, infinity for blocks beyond those that their group may still lose."""
        group = self.left // self.layout.group
        by_cost = torch.sort(cost, dim=1, stable=True).indices
        by_group = torch.gather(group, 1, by_cost).sort(dim=1, stable=True)
        order = torch.gather(by_cost, 1, by_group.indices)  # groups in order, in each the cheapest first
        place = torch.arange(cost.shape[1]).expand_as(cost)
        first = torch.cat([torch.ones(len(cost), 1, dtype=torch.bool), by_group.values.diff(dim=1) != 0], 1)
        within = place - torch.where(first, place, 0).cummax(1).values
        over = within >= torch.gather(self.free, 1, by_group.values)
        return cost.masked_fill(torch.zeros_like(over).scatter_(1, order, over), torch.inf)

    def _remove(self, chosen: Tensor) -> None:
        """Takes blocks, by their place among those that are left, ascending."""
        panels, left = self.left.shape
        stays = torch.ones(panels, left, dtype=torch.bool).scatter_(1, chosen, False)
        kept = torch.arange(left).expand(panels, left)[stays].view(panels, -1)
        self.left = torch.gather(self.left, 1, kept)
        last = torch.full((panels, 1), left * self.inputs)
        gone, rest = self._columns(chosen), torch.cat([self._columns(kept), last], 1)
        across = _taken(self.inverse, gone, rest)
        factor = torch.linalg.cholesky(_taken(self.inverse, gone, gone))
        halves = torch.linalg.solve_triangular(factor, across, upper=False)
        w = torch.gather(self.weight, 2, gone[:, None].expand(-1, self.weight.shape[1], -1))
        moved = torch.linalg.solve_triangular(factor, w.mT, upper=False).mT @ halves
        self.weight = torch.gather(self.weight, 2, rest[:, None].expand(-1, self.weight.shape[1], -1)) - moved
        self.inverse = torch.baddbmm(_taken(self.inverse, rest, rest), halves.mT, halves, alpha=-1.0)

    def _columns(self, blocks: Tensor) -> Tensor:
        return (blocks[:, :, None] * self.inputs + torch.arange(self.inputs)).flatten(1)


def _taken(square: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """[P, r, c] of [P, k, k], by indices [P, r] and [P, c]."""
    wide = torch.gather(square, 1, rows[:, :, None].expand(-1, -1, square.shape[2]))
    return torch.gather(wide, 2, columns[:, None, :].expand(-1, rows.shape[1], -1))


def compensated(quadratic: Quadratic, kept: np.ndarray, layout: Layout) -> Tensor:
    """The weights of the least error of which only those in blocks `kept`, bool [P, blocks], and biases are
    not zero: float64 [P, outputs, K]."""
    result = torch.zeros_like(quadratic.right)
    for p, blocks in enumerate(kept):
        columns = torch.from_numpy(np.flatnonzero(np.append(blocks.repeat(layout.inputs), True)))
        part = quadratic.hessian[p // quadratic.together][columns[:, None], columns]
        factor = torch.linalg.cholesky(part)
        result[p][:, columns] = torch.cholesky_solve(quadratic.right[p][:, columns].mT, factor).mT
    return result
