"""What of a training is kept: the last parameters, their average over steps, or the best on a check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from subbyte.recipes import Training

Parameters = Mapping[str, Mapping[str, Tensor]]
Copies = dict[str, dict[str, Tensor]]


def copies(parameters: Parameters) -> Copies:
    """The numbers of all parameters as they are now."""
    return {kind: {n: t.detach().clone() for n, t in named.items()} for kind, named in parameters.items()}


def put(parameters: Parameters, values: Parameters) -> None:
    """Sets all parameters to the numbers of their namesakes. KeyError, RuntimeError: one is missing or of
    another shape."""
    with torch.no_grad():
        for kind, named in parameters.items():
            for name, tensor in named.items():
                tensor.copy_(values[kind][name])


class Average:
    """The running mean of the parameters that `Training.ema` or `Training.tail` asks for, if any.

    With ema, of the weights d**(n-i) of n steps, over their sum, so that where training began counts nothing.
    """

    def __init__(self, parameters: Parameters, training: Training, steps: int) -> None:
        self.parameters, self.decay = parameters, training.ema
        self.begin = 0 if training.ema else steps - max(1, round(training.tail * steps))
        self.values: Copies | None = copies(parameters) if training.ema or training.tail else None
        self.count = 0

    def add(self, step: int) -> None:
        """Takes the parameters after step `step`, from 1, into account."""
        if self.values is None or step <= self.begin:
            return
        self.count += 1
        d = self.decay
        share = (1.0 - d) / (1.0 - d**self.count) if d else 1.0 / self.count
        with torch.no_grad():
            for kind, named in self.parameters.items():
                for name, tensor in named.items():
                    self.values[kind][name].lerp_(tensor.detach(), share)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Inside, the parameters are their average, once there is one."""
        if self.values is None or self.count == 0:
            yield
            return
        before = copies(self.parameters)
        put(self.parameters, self.values)
        try:
            yield
        finally:
            put(self.parameters, before)

    def keep(self) -> None:
        """The parameters become their average, if there is one."""
        if self.values is not None and self.count:
            put(self.parameters, self.values)

    def state(self) -> dict[str, Any]:
        """What `restore` needs."""
        return {"values": self.values, "count": self.count}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` gave."""
        if self.values is not None:
            put(self.values, state["values"])
            self.count = state["count"]


class Best:
    """The parameters with the least loss on a check, and whether training has waited long enough for better.

    A loss that is no number is never the best.
    """

    def __init__(self, parameters: Parameters, patience: int) -> None:
        self.parameters, self.patience = parameters, patience
        self.values: Copies | None = None
        self.loss, self.waited = float("inf"), 0

    @property
    def ended(self) -> bool:
        """Whether `patience` checks in turn found nothing better."""
        return 0 < self.patience <= self.waited

    def add(self, loss: float) -> None:
        """Takes a check of the parameters as they are into account."""
        if loss < self.loss:
            self.loss, self.waited, self.values = loss, 0, copies(self.parameters)
        else:
            self.waited += 1

    def keep(self) -> bool:
        """The parameters become the best ones; False if no check found any."""
        if self.values is None:
            return False
        put(self.parameters, self.values)
        return True

    def state(self) -> dict[str, Any]:
        """What `restore` needs."""
        return {"values": self.values, "loss": self.loss, "waited": self.waited}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` gave."""
        self.values, self.loss, self.waited = state["values"], state["loss"], state["waited"]
