"""Measures what training does on images held back from it, and keeps the best state."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from subbyte.steps.train import Parameters, read_state, set_parameters, write_state


class Enough(Exception):
    """Raised by `Watch` out of the optimizer's loop: training does not help any more."""


class Watch:
    """Told every step of training, measures every so many, the last and the start, and keeps the best state.

    parameters: as `minimize` trains them. measure: their error now, least is best; NaN never is. every:
    steps between two measurements; steps: of the whole training. patience: so many measurements after the
    best raise Enough; 0: none does. path: a file for the measurements and the best state; where it exists,
    its measurements are not made again, so that training which is resumed at an earlier step goes on to the
    same result.
    """

    def __init__(
        self,
        parameters: Parameters,
        measure: Callable[[], float],
        every: int,
        steps: int,
        patience: int = 0,
        path: Path | None = None,
    ) -> None:
        self.parameters, self.measure = parameters, measure
        self.every, self.steps, self.patience, self.path = every, steps, patience, path
        self.errors: dict[int, float] = {}
        self.best: Mapping[str, Mapping[str, Tensor]] = {}
        if path is not None and path.exists():
            state = read_state(path)
            self.errors, self.best = state.get("errors", {}), state.get("best", {})
        self(0)

    def __call__(self, step: int) -> None:
        """Raises Enough after the last measurement that was worth waiting for."""
        if step % self.every and step != self.steps:
            return
        if step not in self.errors:
            with torch.no_grad():
                self.errors[step] = float(self.measure())
            if self.best_step == step:
                self.best = copied(self.parameters)
            self._save()
        # of what was measured up to here: the same whether or not it was measured before an interruption
        known = [self.errors[at] for at in sorted(self.errors) if at <= step]
        if self.patience and len(known) - 1 - known.index(min(known, key=_order)) >= self.patience:
            raise Enough

    @property
    def best_step(self) -> int:
        """The first step with the least error; 0 is the start."""
        return min(sorted(self.errors), key=lambda step: _order(self.errors[step]))

    def restore(self) -> None:
        """Gives the parameters the best state. InputError if the file held the state of others."""
        set_parameters(self.parameters, self.best, self.path or Path("the best state"))

    def _save(self) -> None:
        if self.path is not None:
            write_state(self.path, {"errors": self.errors, "best": self.best})


def _order(error: float) -> float:
    return math.inf if math.isnan(error) else error


def copied(parameters: Parameters) -> dict[str, dict[str, Any]]:
    """Parameters as they are now."""
    return {kind: {n: t.detach().clone() for n, t in named.items()} for kind, named in parameters.items()}
