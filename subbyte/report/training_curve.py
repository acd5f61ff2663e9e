"""A picture of how training went: loss, and accuracy on the images held back, over the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from subbyte.report import svg
from subbyte.report.axes import BOTTOM, RIGHT, TOP, Frame, number, ticks

WIDTH, HEIGHT = 640.0, 320.0  # pixels
STYLE = (
    "text{font:12px sans-serif;fill:#555}.grid{stroke:#ddd}.axis{stroke:#888}polyline{fill:none}"
    "polyline{stroke-width:2}.loss{stroke:#d55e00}.top1{stroke:#0072b2}text.loss{fill:#d55e00;stroke:none}"
    "text.top1{fill:#0072b2;stroke:none}.stage{stroke:#bbb;stroke-dasharray:2 4}svg{background:#fff}"
)


def training_curve(title: str, records: Sequence[Mapping[str, Any]]) -> str:
    """An SVG file. records: each with epoch, stage, size and loss, and top1_rate (0..1) where it was
    measured."""
    losses = [(r["epoch"], r["loss"]) for r in records]
    rates = [(r["epoch"], 100 * r["top1_rate"]) for r in records if "top1_rate" in r]
    end = max(x for x, _ in losses)
    highest = max(y for _, y in losses) * 1.05 or 1.0
    left = Frame(WIDTH, HEIGHT, (0.0, end), (0.0, highest))
    right = Frame(WIDTH, HEIGHT, (0.0, end), (0.0, 100.0))
    parts = [svg.element("style", svg.Markup(STYLE)), *left.axes("epochs", "loss, nats")]
    for before, after in pairwise(records):
        if before["stage"] != after["stage"]:
            x = left.x(before["epoch"])
            parts.append(svg.line(x, TOP, x, HEIGHT - BOTTOM, class_="stage"))
            parts.append(svg.text(x + 4, TOP + 12, f"{after['size'][0]} x {after['size'][1]}"))
    parts.append(svg.polyline(((left.x(x), left.y(y)) for x, y in losses), class_="loss"))
    if rates:
        parts.append(svg.polyline(((right.x(x), right.y(y)) for x, y in rates), class_="top1"))
        for value in ticks(0.0, 100.0, 5):
            parts.append(svg.text(WIDTH - RIGHT - 4, right.y(value) - 4, number(value), "end", class_="top1"))
        parts.append(svg.text(WIDTH - RIGHT, 13, "top-1 of images held back, %", "end", class_="top1"))
    drawn = svg.drawing(WIDTH, HEIGHT, f"training of {title}", parts, xmlns="http://www.w3.org/2000/svg")
    return f"{drawn}\n"
