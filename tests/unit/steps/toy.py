"""A small problem for the training loop, also as a program that can be killed or started several times.

python -m tests.unit.steps.toy STATE RESULT: trains, keeps the state in one file and the result in the other,
and prints the number of each step.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from subbyte.recipes import Training
from subbyte.steps import train
from subbyte.steps.hooks import Hooks

COUNT = 24
X = torch.randn(COUNT, 6, generator=torch.Generator().manual_seed(1))
Y = X @ torch.linspace(-1.0, 1.0, 6) + 0.1 * torch.randn(COUNT, generator=torch.Generator().manual_seed(2))
#: Everything that a state has to hold.
ALL = Training(steps=60, batch=5, ema=0.9, clip=1.0, held_back=0.1, check=7, warmup=0.1, pull=0.5)


def parameters() -> dict[str, dict[str, Tensor]]:
    """Leaves of every kind but "grid"."""
    made = {
        "weight": {"a": torch.ones(2, 6), "b": torch.linspace(0.5, 1.0, 6)},
        "scale": {"a": torch.zeros(2)},
        "bias": {"b": torch.zeros(1)},
        "grid": {},
    }
    for named in made.values():
        for leaf in named.values():
            leaf.requires_grad_()
    return made


def loss_of(leaves: Mapping[str, Mapping[str, Tensor]], noise: float = 0.0) -> train.Loss:
    """Least squares by two matrices, a scale and a bias; part of each image is dropped at random."""

    def loss(chosen: Tensor, generator: torch.Generator) -> Tensor:
        x = X[chosen]
        if noise:
            x = x * (torch.rand(x.shape, generator=generator) >= noise)
        rows = (leaves["weight"]["a"] * leaves["scale"]["a"].exp()[:, None]).sum(0)
        return (x @ (rows * leaves["weight"]["b"]) + leaves["bias"]["b"] - Y[chosen]).square().mean()

    return loss


class Wandering(Hooks):
    """Adds to a weight what depends on all steps before."""

    def __init__(self, leaves: Mapping[str, Mapping[str, Tensor]]) -> None:
        self.leaves, self.sum = leaves, 0.0

    def after(self, step: int, steps: int) -> None:
        self.sum = 0.9 * self.sum + float(self.leaves["bias"]["b"].detach())
        with torch.no_grad():
            self.leaves["weight"]["b"][0] += 1e-3 * self.sum

    def state(self) -> dict[str, Any]:
        return {"sum": self.sum}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.sum = state["sum"]


def main(saved: Path | None, result: Path | None) -> dict[str, dict[str, Tensor]]:
    """Trains with everything that a state has to hold."""
    leaves = parameters()
    check = loss_of(leaves)
    train.minimize(
        leaves,
        loss_of(leaves, noise=0.3),
        COUNT - 4,
        ALL,
        torch.Generator().manual_seed(3),
        lambda step: print(step, flush=True),
        saved,
        hooks=(Wandering(leaves),),
        check=lambda: {"loss": float(check(torch.arange(COUNT - 4, COUNT), torch.Generator()))},
    )
    if result is not None:
        torch.save(leaves, result)
    return leaves


if __name__ == "__main__":
    torch.set_num_threads(1)
    train.SAVED_EVERY = train.SAVED_COST = 1
    main(Path(sys.argv[1]), Path(sys.argv[2]))
