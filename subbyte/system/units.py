"""Numbers for people."""

from __future__ import annotations

from collections.abc import Sequence


def size_text(count: float) -> str:
    """Bytes with three digits or more, in the decimal unit that fits: "812 B", "31.4 kB", "4.80 MB"."""
    if count < 1000:
        return f"{count:.0f} B"
    if count < 99_950:
        return f"{count / 1e3:.1f} kB"
    if count < 999_500:
        return f"{count / 1e3:.0f} kB"
    return f"{count / 1e6:.2f} MB"


def percent(share: float) -> str:
    """A share 0..1 in per cent."""
    return f"{100 * share:.2f} %"


def points(share: float) -> str:
    """A difference of shares in percentage points."""
    return f"{100 * share:+.2f} points"


def interval_text(ends: Sequence[float], title: str = "95 % interval ") -> str:
    """The ends of an interval of shares 0..1, in per cent."""
    low, high = ends
    return f"{title}{percent(low)} – {percent(high)}"


def duration_text(seconds: float) -> str:
    """A time in whole units: "42 s", "3 min", "2 h 05 min"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
