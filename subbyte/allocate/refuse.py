"""Where fewer than 8 bits cannot pay, whatever the budget: rules, and the reasons they give."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from subbyte.quant import Format
from subbyte.quant.format import INT8

#: Nats below which a degradation is not worth speaking of.
FREE = 1e-4


@dataclass(frozen=True)
class Rules:
    """acceptable: points of agreement that one layer alone may surely lose where it gains no time.
    faster: share of a layer's time that counts as a gain."""

    acceptable: float = 5.0
    faster: float = 0.02


@dataclass(frozen=True)
class FormatFacts:
    """A layer in one format, beside itself at 8 bits. saved: bytes of codes. scales: bytes of its scales.
    lost: points of agreement, alone, on so many `images`. speedup: share of its time that it gains."""

    saved: int
    scales: int
    lost: float
    images: int
    speedup: float

    @property
    def surely_lost(self) -> float:
        """`lost` less its standard error, were images lost independently of each other."""
        count = max(self.lost, 0.0) * self.images / 100.0
        return 100.0 * (count - math.sqrt(count)) / self.images


def refusal(facts: FormatFacts, format: Format, rules: Rules) -> str | None:
    """Why the layer may not have this format, or None."""
    if facts.saved < facts.scales:
        return f"{format.words} would save {facts.saved} bytes, less than the {facts.scales} of its scales"
    if facts.surely_lost > rules.acceptable and facts.speedup < rules.faster:
        return (
            f"{format.words} alone would cost {facts.lost:.1f} points of agreement, and no time would be won"
        )
    return None


def kept_because(
    refused: Mapping[Format, str], degradations: Mapping[Format, float], saved: Mapping[Format, int]
) -> str:
    """Why a layer that was given 8 bits has them.

    refused: reasons by format. degradations: KL that a format adds; saved: bytes that it saves.
    """
    narrower = [format for format in degradations if format != INT8]
    if not narrower:
        return "no other format was measured"
    widest = max(narrower, key=lambda format: format.width)
    if widest in refused:
        return refused[widest]
    if degradations[widest] < FREE:
        return "the budgets do not ask for less"
    price = 1e6 * degradations[widest] / max(saved[widest], 1)
    return (
        f"{widest.words} would add {degradations[widest]:.4f} nats and save {saved[widest] / 1e3:.1f} kB: "
        f"{price:.2g} nats per MB"
    )
