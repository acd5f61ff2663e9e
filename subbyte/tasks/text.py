"""How tables write shares and their intervals."""

from __future__ import annotations

from collections.abc import Sequence


def percent(share: float) -> str:
    """A share 0..1 in per cent."""
    return f"{100 * share:.2f} %"


def points(share: float) -> str:
    """A difference of shares in percentage points."""
    return f"{100 * share:+.2f} points"


def interval_text(ends: Sequence[float], title: str = "95 % interval ") -> str:
    low, high = ends
    return f"{title}{percent(low)} – {percent(high)}"
