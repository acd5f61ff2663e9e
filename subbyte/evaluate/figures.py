"""The report's plots, as plain plotly figures (JSON values)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subbyte.evaluate.entry import Entry

#: Colours by row: strong ones, blue first, for this package's artifacts, warm greys for the peers.
OWN = (
    "#0b3d91",
    "#1976d2",
    "#42a5f5",
    "#00897b",
    "#66bb6a",
    "#7e57c2",
    "#ad1457",
    "#f4511e",
    "#f9a825",
    "#26c6da",
)
PEER = ("#5f6b76", "#a1887f", "#bdbdbd", "#d4a373", "#8d6e63")
GRID = "#e6e9ed"


def colours(entries: Sequence[Entry]) -> dict[str, str]:
    """A colour for each entry's name, the same in every figure."""
    result: dict[str, str] = {}
    for palette, peer in ((OWN, False), (PEER, True)):
        names = [entry.name for entry in entries if entry.peer is peer]
        result |= {name: palette[i % len(palette)] for i, name in enumerate(names)}
    return result


def figures_of(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """All figures that there are measurements for."""
    made = [
        accuracy_over(entries, "size", "file size, MB", lambda e: _scaled(e.file_bytes, 1e-6)),
        accuracy_over(entries, "latency", "latency of one picture, ms", lambda e: e.latency_ms),
        accuracy_over(entries, "memory", "weights and activations in memory, MB", _memory),
        latency_bars(entries),
        accuracy_by_severity(entries),
    ]
    return [figure for figure in made if figure is not None]


def _memory(entry: Entry) -> float | None:
    return _scaled(entry.memory_bytes, 1e-6)


def _scaled(value: int | None, factor: float) -> float | None:
    return None if value is None else value * factor


def accuracy_over(
    entries: Sequence[Entry], name: str, axis: str, cost: Callable[[Entry], float | None]
) -> dict[str, Any] | None:
    """Top-1 with its 95 % interval over a cost, and the Pareto front, without the failed. None if fewer
    than two entries have both."""
    measured = [entry for entry in entries if entry.accuracy is not None and not entry.failed]
    points = [(entry, x) for entry in measured if (x := cost(entry)) is not None]
    if len(points) < 2:
        return None
    colour = colours(entries)
    front = pareto([(x, entry.accuracy.top1_rate) for entry, x in points if entry.accuracy])
    line = {
        "type": "scatter",
        "mode": "lines",
        "name": "Pareto front",
        "x": [x for x, _ in front],
        "y": [100 * rate for _, rate in front],
        "line": {"shape": "hv", "color": "#c3ccd5", "width": 2, "dash": "dot"},
        "hoverinfo": "skip",
    }
    return figure(
        f"accuracy-over-{name}",
        f"Accuracy over {name}",
        [line, *(_point(entry, x, colour[entry.name]) for entry, x in points)],
        {"title": {"text": axis}, "rangemode": "tozero"},
        {"title": {"text": "top-1, %"}},
    )


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (cost, gain) that no other is at most as costly as, and better; cheapest first."""
    front: list[tuple[float, float]] = []
    for cost, gain in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or gain > front[-1][1]:
            front.append((cost, gain))
    return front


def _point(entry: Entry, x: float, colour: str) -> dict[str, Any]:
    assert entry.accuracy is not None
    low, high = (100 * end for end in entry.accuracy.interval())
    rate = 100 * entry.accuracy.top1_rate
    return {
        "type": "scatter",
        "mode": "markers",
        "name": entry.name,
        "x": [x],
        "y": [rate],
        "marker": {"size": 12, "color": colour, "symbol": "diamond" if entry.peer else "circle"},
        "error_y": {
            "array": [high - rate],
            "arrayminus": [rate - low],
            "color": colour,
            "thickness": 1.2,
            "width": 4,
        },
        "hovertemplate": "%{y:.2f} %, %{x:.2f}",
    }


def accuracy_by_severity(entries: Sequence[Entry]) -> dict[str, Any] | None:
    """Top-1 over severity, mean of all families; severity 0 is the clean pictures. None if not measured."""
    colour = colours(entries)
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": entry.name,
            "x": [0, *robust.severities],
            "y": [100 * float(y) for y in (robust.clean.mean(), *robust.grid.mean(axis=0))],
            "line": {"color": colour[entry.name]},
            "hovertemplate": "%{y:.2f} %",
        }
        for entry in entries
        if (robust := entry.robustness) is not None
    ]
    if not traces:
        return None
    return figure(
        "accuracy-by-severity",
        "Accuracy on corrupted pictures",
        traces,
        {"title": {"text": "severity, 0: clean"}, "dtick": 1},
        {"title": {"text": "top-1, %"}, "rangemode": "tozero"},
    )


def latency_bars(entries: Sequence[Entry]) -> dict[str, Any] | None:
    """Median latency for one picture. None if nothing was timed."""
    timed = [entry for entry in entries if entry.latency_ms is not None][::-1]
    if not timed:
        return None
    values, colour = [entry.latency_ms or 0.0 for entry in timed], colours(entries)
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": values,
        "y": [entry.name for entry in timed],
        "text": [f" {value:.2f} ms" for value in values],
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": [colour[entry.name] for entry in timed]},
        "hovertemplate": "%{y}: %{x:.3f} ms<extra></extra>",
    }
    return figure(
        "latency",
        "Latency, one picture",
        [trace],
        {"title": {"text": "median, ms"}, "rangemode": "tozero", "range": [0, 1.22 * max(values)]},
        {"automargin": True, "ticksuffix": "  "},
    )


def figure(
    name: str, title: str, traces: list[dict[str, Any]], xaxis: dict[str, Any], yaxis: dict[str, Any]
) -> dict[str, Any]:
    axis = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": GRID}
    layout = {
        "xaxis": axis | xaxis,
        "yaxis": axis | yaxis,
        "showlegend": len(traces) > 1,
        "legend": {"orientation": "h", "y": 1.04, "yanchor": "bottom"},
        "height": 380 + 20 * max(0, len(traces) - 5),  # the legend stands above the plot
        "margin": {"l": 60, "r": 30, "t": 12, "b": 52},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#1f2933"},
    }
    return {"id": name, "title": title, "data": traces, "layout": layout}
