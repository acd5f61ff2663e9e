"""The report's plots, as SVG: accuracy over what it costs, latency, accuracy by severity.

Each is drawn twice, for a screen and for a telephone, so that its letters have a size that can be read on
both. Colours come from classes, which the page's style sheet defines for light and dark; the palette is
that of Okabe and Ito, and shapes differ too, hollow ones for peers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import hypot
from typing import TYPE_CHECKING

from subbyte.report import svg
from subbyte.report.axes import BOTTOM, LEFT, RIGHT, TOP, Frame
from subbyte.report.point_labels import CHARACTER, Box, place_labels

if TYPE_CHECKING:
    from subbyte.report.entry import Entry

WIDE, NARROW = 540, 312  # pixels; the narrow one fits into a page of 360
COLOURS = 8  # in the style sheet: .c0 to .c7
SHAPES = 6
MARK = 6.0  # pixels, half a marker

#: An entry that stands in a plot at (cost, score in per cent).
Point = tuple["Entry", float, float]


@dataclass(frozen=True)
class Figure:
    """id: of its element; wide, narrow: the drawing for each; note: what else has to be said."""

    id: str
    title: str
    wide: svg.Markup
    narrow: svg.Markup
    note: str = ""


def figures_of(entries: Sequence[Entry]) -> list[Figure]:
    """All figures that there are measurements for."""
    memory = "weights and activations in memory, MB"
    made = [
        accuracy_over(entries, "size", "file size, MB", lambda e: _megabytes(e.file_bytes)),
        accuracy_over(entries, "latency", "latency of one image, ms", lambda e: e.latency_ms),
        latency_bars(entries),
        accuracy_over(entries, "memory", memory, lambda e: _megabytes(e.memory_bytes)),
    ]
    return [figure for figure in made if figure is not None]


def styles(entries: Sequence[Entry]) -> dict[str, str]:
    """Each entry's class, by name: its colour and whether it is a peer, the same in every figure."""
    return {e.name: f"c{i % COLOURS}" + (" peer" if e.peer else "") for i, e in enumerate(entries)}


def _megabytes(count: int | None) -> float | None:
    return None if count is None else count * 1e-6


def accuracy_over(
    entries: Sequence[Entry], name: str, axis: str, cost: Callable[[Entry], float | None]
) -> Figure | None:
    """The score with its 95 % interval over a cost, and the Pareto front, without the failed. None if fewer
    than two entries have both."""
    points: list[Point] = [
        (entry, x, 100 * entry.accuracy.rate)
        for entry in entries
        if entry.accuracy is not None and not entry.failed and (x := cost(entry)) is not None
    ]
    if len(points) < 2:
        return None
    title = f"Accuracy vs {name}"
    wide, narrow = (_scatter(entries, points, title, axis, width) for width in (WIDE, NARROW))
    scores = [entry.accuracy for entry, *_ in points if entry.accuracy is not None]
    wilson = " (Wilson)" if all(score.count is not None for score in scores) else ""
    note = f"Bars: 95 % interval{wilson}. Line: Pareto front, best accuracy at that cost or less."
    return Figure(f"accuracy-over-{name}", title, wide, narrow, note)


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (cost, gain) that no other is at most as costly as, and better; cheapest first."""
    front: list[tuple[float, float]] = []
    for cost, gain in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or gain > front[-1][1]:
            front.append((cost, gain))
    return front


def _scatter(
    entries: Sequence[Entry], points: Sequence[Point], title: str, axis: str, width: float
) -> svg.Markup:
    intervals = [_interval(entry) for entry, _, _ in points]
    low, high = min(i[0] for i in intervals), max(i[1] for i in intervals)
    pad = max(0.08 * (high - low), 0.5)
    most = 1.1 * max(x for _, x, _ in points)
    frame = Frame(width, 330, (0, most), (low - pad, high + pad))
    places = [(frame.x(x), frame.y(y)) for _, x, y in points]
    bars = [(x, frame.y(low), frame.y(high)) for (x, _), (low, high) in zip(places, intervals, strict=True)]
    stairs = _front(frame, points)
    boxes = _labels(frame, points, places, bars, stairs)
    index, style = {e.name: i for i, e in enumerate(entries)}, styles(entries)
    assert points[0][0].accuracy is not None
    parts = frame.axes(axis, f"{points[0][0].accuracy.title}, %")
    parts.append(svg.polyline(stairs, class_="pareto"))
    for (x, y), box in zip(places, boxes, strict=True):
        parts.append(svg.line(x, y, *_nearest(box, x, y), class_="leader"))
    for (entry, cost, rate), (x, y), (_, bottom, top), (low, high), grown in zip(
        points, places, bars, intervals, _growth(places), strict=True
    ):
        tip = f"{entry.name}: {rate:.2f} % ({low:.1f} to {high:.1f}), {axis} {cost:.2f}"
        whisker = [svg.line(x, bottom, x, top)] + [svg.line(x - 4, e, x + 4, e) for e in (bottom, top)]
        parts.append(
            svg.group(
                svg.group(whisker, class_="bar"),
                marker(x, y, index[entry.name], grown),
                tip=tip,
                class_=f"point {style[entry.name]}",
            )
        )
    for (entry, *_), box in zip(points, boxes, strict=True):
        parts.append(svg.text(box[0], box[3] - 3.5, _shown(entry, width / 2), class_="label"))
    return svg.drawing(width, frame.height, title, parts, class_="plot")


def _interval(entry: Entry) -> tuple[float, float]:
    """Of the accuracy, per cent."""
    assert entry.accuracy is not None
    low, high = entry.accuracy.interval()
    return 100 * low, 100 * high


def _labels(
    frame: Frame,
    points: Sequence[Point],
    places: Sequence[tuple[float, float]],
    bars: Sequence[tuple[float, float, float]],
    stairs: Sequence[tuple[float, float]],
) -> list[Box]:
    marks = [(x - MARK - 2, y - MARK - 2, x + MARK + 2, y + MARK + 2) for x, y in places]
    lines = [(x - 3, top, x + 3, bottom) for x, bottom, top in bars]
    lines += [
        (min(a[0], b[0]) - 1, min(a[1], b[1]) - 1, max(a[0], b[0]) + 1, max(a[1], b[1]) + 1)
        for a, b in pairwise(stairs)
    ]
    within = (LEFT + 2, TOP, frame.width - RIGHT, frame.height - BOTTOM)
    names = [_shown(entry, frame.width / 2) for entry, *_ in points]
    return place_labels(places, names, marks + lines, within)


def _shown(entry: Entry, pixels: float) -> str:
    """The name, or as much of it as fits."""
    return svg.shortened(entry.name, int(pixels / CHARACTER))


def _nearest(box: Box, x: float, y: float) -> tuple[float, float]:
    """The point of a label's box that a line from (x, y) ends at."""
    return min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])


def _front(frame: Frame, points: Sequence[Point]) -> list[tuple[float, float]]:
    """Stairs, in pixels: up to the next point's cost, the accuracy stays."""
    front = pareto([(x, y) for _, x, y in points])
    stairs = [front[0]]
    for cost, gain in front[1:]:
        stairs += [(cost, stairs[-1][1]), (cost, gain)]
    stairs.append((frame.x_range[1], stairs[-1][1]))
    return [(frame.x(x), frame.y(y)) for x, y in stairs]


def _growth(places: Sequence[tuple[float, float]]) -> list[float]:
    """How much larger each marker is drawn, so that none vanishes under those that are drawn after it."""
    return [
        1 + 0.6 * sum(hypot(x - other, y - above) < MARK for other, above in places[i + 1 :])
        for i, (x, y) in enumerate(places)
    ]


def marker(x: float, y: float, number: int, grown: float = 1) -> svg.Markup:
    """The shape of the entry of that number, around a point; a ring if it has grown around others."""
    m, style = MARK * grown, "mark" if grown == 1 else "mark ring"
    if number % SHAPES == 0:
        return svg.element("circle", cx=float(x), cy=float(y), r=m, class_=style)
    corners = (
        [(-1, -1), (1, -1), (1, 1), (-1, 1)],
        [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
        [(0, -1.2), (1.15, 0.9), (-1.15, 0.9)],
        [(0, 1.2), (1.15, -0.9), (-1.15, -0.9)],
        [(-0.55, -1.1), (0.55, -1.1), (1.15, 0), (0.55, 1.1), (-0.55, 1.1), (-1.15, 0)],
    )[number % SHAPES - 1]
    points = " ".join(f"{x + m * dx:.1f},{y + m * dy:.1f}" for dx, dy in corners)
    return svg.element("polygon", points=points, class_=style)


def accuracy_by_severity(entries: Sequence[Entry]) -> Figure | None:
    """Top-1 over severity, mean of all families; severity 0 is the clean images. None if not measured."""
    if all(entry.robustness is None for entry in entries):
        return None
    title = "Accuracy on corrupted images"
    wide, narrow = (_severities(entries, title, width) for width in (WIDE, NARROW))
    return Figure("accuracy-by-severity", title, wide, narrow, "Mean of all families of corruption.")


def _severities(entries: Sequence[Entry], title: str, width: float) -> svg.Markup:
    style = styles(entries)
    curves = [
        (i, entry, [(0, robust.clean.mean()), *zip(robust.severities, robust.grid.mean(axis=0), strict=True)])
        for i, entry in enumerate(entries)
        if (robust := entry.robustness) is not None
    ]
    levels = sorted({float(x) for _, _, points in curves for x, _ in points})
    frame = Frame(width, 330 + 18 * len(curves), (-0.2, levels[-1] + 0.2), (0, 100))
    plot = Frame(width, 330, frame.x_range, frame.y_range)
    parts = plot.axes("severity (0: clean)", "top-1 accuracy, %", levels)
    for row, (i, entry, points) in enumerate(curves):
        places = [(plot.x(x), plot.y(100 * y)) for x, y in points]
        marks = [
            svg.group(marker(*place, i), tip=f"{entry.name}, severity {x}: {100 * y:.1f} %")
            for place, (x, y) in zip(places, points, strict=True)
        ]
        key = svg.text(LEFT + 16, 344 + 18 * row, _shown(entry, width - LEFT - 16), class_="label")
        parts.append(
            svg.group(
                svg.polyline(places, class_="curve"),
                marks,
                marker(LEFT + 4, 340 + 18 * row, i),
                class_=f"point {style[entry.name]}",
            )
        )
        parts.append(key)
    return svg.drawing(width, frame.height, title, parts, class_="plot")


def latency_bars(entries: Sequence[Entry]) -> Figure | None:
    """Median latency for one image, fastest first. None if nothing was timed."""
    timed = sorted((e for e in entries if e.latency_ms is not None), key=lambda e: e.latency_ms or 0)
    if not timed:
        return None
    title = "Latency of one image"
    wide, narrow = (_bars(entries, timed, title, width) for width in (WIDE, NARROW))
    ranged = any(entry.latency_range_ms for entry in timed)
    note = "Median; lines from the 10th to the 90th percentile." if ranged else "Median."
    return Figure("latency", title, wide, narrow, note)


def _bars(entries: Sequence[Entry], timed: Sequence[Entry], title: str, width: float) -> svg.Markup:
    style, parts, row = styles(entries), [], 40
    ends = [max(entry.latency_ms or 0, *(entry.latency_range_ms or (0,))) for entry in timed]
    scale = (width - 76) / max(*ends, 1e-9)
    for i, (entry, end) in enumerate(zip(timed, ends, strict=True)):
        value, y = entry.latency_ms or 0.0, row * i
        bar = [svg.rect(0, y + 18, max(value * scale, 1), 14, rx=2, class_="fill")]
        if entry.latency_range_ms:
            low, high = (scale * x for x in entry.latency_range_ms)
            bar.append(svg.line(low, y + 25, high, y + 25, class_="range"))
        tip = f"{entry.name}: {value:.3f} ms"
        parts.append(svg.group(bar, tip=tip, class_=f"point {style[entry.name]}"))
        parts.append(svg.text(0, y + 12, _shown(entry, width), class_="label"))
        parts.append(svg.text(scale * end + 6, y + 30, f"{value:.2f} ms", class_="value"))
    return svg.drawing(width, row * len(timed), title, parts, class_="plot")
