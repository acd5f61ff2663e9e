"""Training by several processes at once: each takes its part of a step's images, gradients are averaged.

Data parallelism as torchrun starts it: every process holds all parameters, and makes equal steps. A program
calls torch.distributed.init_process_group first; where it did not, there is one process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed


def place() -> tuple[int, int]:
    """The number of this process, and how many there are."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def first() -> bool:
    """Whether this is the process that writes and reports."""
    return place()[0] == 0


def of_first(value: Any) -> Any:
    """What the first process has: plain values and tensors."""
    if place()[1] == 1:
        return value
    held = [value]
    distributed.broadcast_object_list(held, src=0)
    return held[0]


def own_generator(generator: torch.Generator, step: int) -> torch.Generator:
    """For what this process alone draws in a step: a stream of its own, so that `generator`, which chooses
    the images, goes on alike in all. A single process goes on with `generator` itself.
    """
    rank, processes = place()
    if processes == 1:
        return generator
    stream = np.random.SeedSequence((generator.initial_seed(), step, rank))
    return torch.Generator().manual_seed(int(stream.generate_state(1, np.uint64)[0]) >> 1)


def own_part(chosen: Tensor) -> Tensor:
    """Every so many-th of the step's images, from this process's number on."""
    rank, processes = place()
    return chosen[rank::processes]


def average(loss: Tensor, leaves: Sequence[Tensor], share: float) -> Tensor:
    """The mean of the processes' losses, whose gradients the leaves then have, too.

    loss: scalar, of the images of this process, `share` of all. Losses must be means over images: then the
    result is that of one process, but for the order of float additions.
    """
    if place()[1] == 1:
        return loss
    for leaf in leaves:
        if leaf.grad is None:
            leaf.grad = torch.zeros_like(leaf)
    mean = loss.detach() * share
    distributed.all_reduce(mean)
    for dtype in sorted({leaf.dtype for leaf in leaves}, key=str):
        grads = [leaf.grad for leaf in leaves if leaf.dtype == dtype and leaf.grad is not None]
        flat = torch.cat([grad.flatten() for grad in grads]) * share
        distributed.all_reduce(flat)
        for grad, summed in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
            grad.copy_(summed.view_as(grad))
    return mean
