"""Trains the same in as many processes as there are: python -m tests.unit.steps.two RANK COUNT FOLDER.

Everything that is compared is written to FOLDER, by the number of the process.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributed

from subbyte.compress import compress
from subbyte.recipes import Recipe, Training
from subbyte.steps.train import minimize
from tests.unit.compress.networks import efficientnet_like, random_images

IMAGES = 24
#: Whole numbers: means over 4 and 8 of them are exact in float32.
EXACT = torch.randint(-9, 10, (IMAGES, 5), generator=torch.Generator().manual_seed(0)).float()
POSITIVE = 1.0 + torch.rand(IMAGES, 5, generator=torch.Generator().manual_seed(1))


def linear(x: Tensor, training: Training, folder: Path | None = None) -> dict[str, Tensor]:
    """A loss whose gradient is the mean of x over the images, clipped, averaged, checked and kept."""
    leaves = {"weight": {"w": torch.zeros(5, requires_grad=True)}}

    def loss(chosen: Tensor, generator: torch.Generator) -> Tensor:
        return (x[chosen] @ leaves["weight"]["w"]).mean()

    minimize(
        leaves,
        loss,
        IMAGES,
        training,
        torch.Generator().manual_seed(0),
        saved=None if folder is None else folder / "state.pt",
        check=lambda: {"loss": float((x @ leaves["weight"]["w"]).mean())},
    )
    return {"w": leaves["weight"]["w"].detach()}


ALL = Training(steps=30, batch=8, clip=1.0, ema=0.9, pull=0.5, held_back=0.1)
UNEVEN = Training(steps=30, batch=5)


def network(folder: Path | None) -> dict[str, Tensor]:
    """What both steps of training make of a small network's weights and biases."""
    graph = efficientnet_like()
    recipe = {
        "name": "two",
        "weights": {"bits": 2},
        "steps": ("reconstruct", "distill"),
        "reconstruct": {"steps": 3, "batch": 6},
        "distill": {"steps": 6, "batch": 6},
    }
    made = compress(graph, Recipe.model_validate(recipe), [random_images(graph, 18)], work=folder)
    return {
        f"{node.name} {role}": torch.from_numpy(np.array(getattr(param, "codes", param)))
        for node in made.nodes
        for role, param in node.params.items()
    }


def results(folder: Path | None = None) -> dict[str, dict[str, Tensor]]:
    """All that is compared, by name."""
    return {
        "exact": linear(EXACT, ALL, folder),
        "uneven": linear(POSITIVE, UNEVEN),
        "network": network(folder),
    }


if __name__ == "__main__":
    rank, count, to = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    where = f"file://{to / 'meeting'}"
    distributed.init_process_group("gloo", init_method=where, rank=rank, world_size=count)
    torch.save(results(to), to / f"{rank}.result")
    distributed.destroy_process_group()
