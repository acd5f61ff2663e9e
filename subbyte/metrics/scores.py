"""What a network scores on labelled images: a mean over the images, of which more is better, up to 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class Score(Protocol):
    """n: images. rate: the mean, at most 1. count: of images, where that is what the mean is of, else None.
    title: what it is called, such as "top-1 accuracy"."""

    @property
    def n(self) -> int: ...

    @property
    def title(self) -> str: ...

    @property
    def rate(self) -> float: ...

    @property
    def count(self) -> int | None: ...

    def interval(self) -> tuple[float, float]:
        """Of 95 %."""

    def to_json(self) -> dict[str, Any]:
        """What a row of `subbyte report --json` holds of it."""


@dataclass(frozen=True)
class MeanScore:
    """key: the name of `rate` as a JSON value. errors: other measures, by their names as JSON values."""

    title: str
    key: str
    n: int
    rate: float
    low: float
    high: float
    errors: Mapping[str, float]
    count: None = None

    def interval(self) -> tuple[float, float]:
        """Of 95 %."""
        return self.low, self.high

    def to_json(self) -> dict[str, Any]:
        """`rate` and the other measures, by their names."""
        return {self.key: self.rate, **self.errors}
