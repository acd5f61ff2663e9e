"""What training tells while it runs: a number of words for a progress bar, all of it for a log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from subbyte.system.units import duration_text, percent

#: What a bar shows of `Status.facts`, in this order, and how; a log has all of them.
SHOWN: dict[str, Callable[[float], str]] = {
    "bits": lambda value: f"{value:.2f} bits",
    "check_loss": lambda value: f"held back {value:.4g}",
    "agreement": lambda value: f"agreement {percent(value)}",
}


@dataclass(frozen=True)
class Status:
    """After `step` of `steps`, from 1. run: what is trained, like "distill" or "reconstruct/block-003".

    loss: of the step's images, before it. seconds_left: what the run will still take at its pace so far.
    facts: further numbers by name: "rate", what the schedule leaves of the learning rates, 0..1; "gradient",
    the norm of the gradient; what hooks say, like "bits"; of the last check on images held back,
    "check_loss" and what else it measured, like "agreement", a share.
    """

    step: int
    steps: int
    loss: float
    seconds_left: float
    facts: Mapping[str, float] = field(default_factory=dict)
    run: str = ""

    def __str__(self) -> str:
        words = [SHOWN[name](self.facts[name]) for name in SHOWN if name in self.facts]
        return ", ".join([f"loss {self.loss:.4g}", *words, f"{duration_text(self.seconds_left)} left"])


Tell = Callable[[Status], None]


def teller(progress: Any, run: str) -> Tell | None:
    """Tells a progress callback that has a method `status` what `run` does; None for one without."""
    told: Tell | None = getattr(progress, "status", None)
    return None if told is None else lambda status: told(replace(status, run=run))
