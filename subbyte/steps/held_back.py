"""Images that training is checked on, and does not see."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from subbyte.errors import InputError
from subbyte.recipes import Training


def split(count: int, training: Training, copies: int = 1) -> tuple[Tensor, Tensor]:
    """Of `count` images, the indices to train on and those held back, evenly spread; int64 each.

    copies: how often the images stand one set behind the other, changed; what is held back of the first set
    is trained on in none. Raises InputError if either part would be empty, though Training wants both.
    """
    i = torch.arange(count, dtype=torch.float64)
    held = ((i + 1) * training.held_back).floor() > (i * training.held_back).floor()
    if training.held_back and (held.all() or not held.any()):
        raise InputError(
            f"{training.held_back:g} of {count} images cannot be held back; give more images or another share"
        )
    kept = (~held).nonzero().flatten()
    return torch.cat([kept + count * copy for copy in range(copies)]), held.nonzero().flatten()


def mean_over(
    held: Tensor, batch: int, measure: Callable[[Tensor], Mapping[str, float]]
) -> Callable[[], dict[str, float]] | None:
    """A check: the means over the images held back of what `measure` gives as means over a batch of them.

    None if nothing is held back.
    """
    if not len(held):
        return None

    def check() -> dict[str, float]:
        found: dict[str, float] = {}
        for part in held.split(batch):
            for name, value in measure(part).items():
                found[name] = found.get(name, 0.0) + value * len(part) / len(held)
        return found

    return check
