"""What changes from step to step of training: widths that narrow, weights that stop to move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from subbyte.recipes import Distillation
from subbyte.steps.hooks import Hooks
from subbyte.steps.learned import Learned

#: What a step counts in the running mean of the loss.
MOMENTUM = 0.1
#: A loss has fallen if it is lower than this share of the lowest.
LOWER = 0.99


class Schedule(Hooks):
    """Sets `learned` to what `asked` says of each step.

    now: the stage of widths that is reached, the running mean of the loss, its lowest value in this stage,
    and for how many steps it has not fallen; float64 [4].
    """

    def __init__(self, learned: Learned, asked: Distillation) -> None:
        self.learned, self.asked = learned, asked
        self.stages = max(len(asked.weight_widths), len(asked.activation_widths))
        self.now = torch.tensor([0.0, float("inf"), float("inf"), 0.0], dtype=torch.float64)
        self.progress = 0.0

    def before(self, step: int, steps: int) -> None:
        """What holds in the step."""
        self.progress = step / steps
        self.learned.rounding.step = step + 1
        if self.stages:
            part = 1.0 if self.progress >= self.asked.narrowed else self._part()
            widths = (self.asked.weight_widths, self.asked.activation_widths)
            self.learned.at(*(_width(listed, part) for listed in widths))
        if self.asked.affine and self.progress >= 1.0 - self.asked.affine:
            for weight in self.learned.parameters["weight"].values():
                weight.requires_grad_(False)

    def state(self) -> dict[str, Any]:
        return {"now": self.now, "rounding": self.learned.rounding.buffers}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.now.copy_(state["now"])
        for kind, named in self.learned.rounding.buffers.items():
            for name, tensor in named.items():
                tensor.copy_(state["rounding"][kind][name])

    def _part(self) -> float:
        """How far through the widths in between, 0 to 1."""
        by_steps = self.progress / self.asked.narrowed
        return by_steps if self.asked.plateau is None else max(by_steps, float(self.now[0]) / self.stages)

    def heard(self, loss: Tensor) -> None:
        """Remembers the loss of a step, for plateaus."""
        if not self.stages or self.asked.plateau is None:
            return
        stage, mean, lowest, waited = self.now.tolist()
        found = float(loss.detach())
        mean = found if mean == float("inf") else mean + MOMENTUM * (found - mean)
        lowest, waited = (mean, 0.0) if mean < LOWER * lowest else (lowest, waited + 1.0)
        if waited >= self.asked.plateau:
            stage, mean, lowest, waited = stage + 1.0, float("inf"), float("inf"), 0.0
        self.now.copy_(torch.tensor([stage, mean, lowest, waited]))


def _width(widths: Sequence[int], part: float) -> int:
    """The width of the moment, 0: that of the format."""
    index = int(part * len(widths))
    return widths[index] if index < len(widths) else 0
