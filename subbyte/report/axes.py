"""The frame of a plot: two linear axes with round ticks, and from numbers to pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from subbyte.report import svg

LEFT, RIGHT, TOP, BOTTOM = 52, 14, 26, 46  # pixels around the plot


@dataclass(frozen=True)
class Frame:
    """width, height: of everything, pixels; x_range, y_range: the numbers at the ends of the axes."""

    width: float
    height: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        """The pixel of a value on the horizontal axis."""
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """The pixel of a value on the vertical axis."""
        low, high = self.y_range
        return self.height - BOTTOM - (value - low) / (high - low) * (self.height - TOP - BOTTOM)

    def axes(self, x_title: str, y_title: str, x_ticks: list[float] | None = None) -> list[svg.Markup]:
        """Grid, ticks and titles; the vertical axis's title stands above it, horizontally."""
        parts = []
        right, bottom = self.width - RIGHT, self.height - BOTTOM
        for value in ticks(*self.y_range, 5):
            y = self.y(value)
            parts.append(svg.line(LEFT, y, right, y, class_="grid"))
            parts.append(svg.text(LEFT - 8, y + 4, number(value), "end", class_="tick"))
        for value in ticks(*self.x_range, int(self.width / 72)) if x_ticks is None else x_ticks:
            x = self.x(value)
            parts.append(svg.line(x, bottom, x, bottom + 4, class_="axis"))
            parts.append(svg.text(x, bottom + 18, number(value), "middle", class_="tick"))
        parts.append(svg.line(LEFT, bottom, right, bottom, class_="axis"))
        parts.append(svg.text((LEFT + right) / 2, self.height - 8, x_title, "middle", class_="title"))
        parts.append(svg.text(4, 13, y_title, class_="title"))
        return parts


def ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers in low..high, low < high: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def number(value: float) -> str:
    """A tick's label, with a true minus."""
    return f"{value:g}".replace("-", "−")
