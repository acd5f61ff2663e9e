"""What else may happen while the optimizer runs: schedules, freezing, numbers to show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Hooks:
    """A subclass overrides what it needs; as it stands nothing happens.

    What it remembers between steps goes through `state` and `restore`, or an interrupted run ends elsewhere.
    """

    def before(self, step: int, steps: int) -> None:
        """Before the loss of step `step`, 0 to steps - 1: where a schedule sets what the loss reads."""

    def after(self, step: int, steps: int) -> None:
        """After the optimizer's step: where parameters are set back, frozen or counted."""

    def facts(self) -> Mapping[str, float]:
        """Numbers for progress and logs, by name; asked for after each step, so they must be cheap."""
        return {}

    def state(self) -> dict[str, Any]:
        """What `restore` needs: tensors and plain values."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` gave."""


class Constant(Hooks):
    """Numbers that stay as they are, to show and to log."""

    def __init__(self, **numbers: float) -> None:
        self.numbers = numbers

    def facts(self) -> Mapping[str, float]:
        return self.numbers
