"""The report's plots, as plain plotly figures (JSON values)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subbyte.evaluate.report import Entry

#: Colours by row: blues for this package's artifacts, warm greys for the peers.
OWN = ("#0b3d91", "#1976d2", "#42a5f5", "#00897b", "#66bb6a", "#7e57c2")
PEER = ("#5f6b76", "#a1887f", "#bdbdbd", "#d4a373", "#8d6e63")
_GRID = "#e6e9ed"


def colours(entries: Sequence[Entry]) -> dict[str, str]:
    """A colour for each entry's name, the same in every figure."""
    result: dict[str, str] = {}
    for palette, peer in ((OWN, False), (PEER, True)):
        names = [entry.name for entry in entries if entry.peer is peer]
        result |= {name: palette[i % len(palette)] for i, name in enumerate(names)}
    return result


def accuracy_over_size(entries: Sequence[Entry]) -> dict[str, Any] | None:
    """Top-1 with its 95 % interval over file size. None if fewer than two entries have both."""
    points = [entry for entry in entries if entry.accuracy is not None and entry.file_bytes is not None]
    if len(points) < 2:
        return None
    colour = colours(entries)
    return _figure(
        "accuracy-over-size",
        "Accuracy over file size",
        [_point(entry, colour[entry.name]) for entry in points],
        {"title": {"text": "file size, MB"}, "rangemode": "tozero"},
        {"title": {"text": "top-1, %"}},
    )


def _point(entry: Entry, colour: str) -> dict[str, Any]:
    assert entry.accuracy is not None
    assert entry.file_bytes is not None
    low, high = (100 * end for end in entry.accuracy.interval())
    rate = 100 * entry.accuracy.top1_rate
    return {
        "type": "scatter",
        "mode": "markers",
        "name": entry.name,
        "x": [entry.file_bytes / 1e6],
        "y": [rate],
        "marker": {"size": 12, "color": colour, "symbol": "diamond" if entry.peer else "circle"},
        "error_y": {
            "array": [high - rate],
            "arrayminus": [rate - low],
            "color": colour,
            "thickness": 1.2,
            "width": 4,
        },
        "hovertemplate": "%{y:.2f} %, %{x:.2f} MB",
    }


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
    return _figure(
        "latency",
        "Latency, one picture",
        [trace],
        {"title": {"text": "median, ms"}, "rangemode": "tozero", "range": [0, 1.22 * max(values)]},
        {"automargin": True, "ticksuffix": "  "},
    )


def _figure(
    name: str, title: str, traces: list[dict[str, Any]], xaxis: dict[str, Any], yaxis: dict[str, Any]
) -> dict[str, Any]:
    axis = {"gridcolor": _GRID, "zerolinecolor": _GRID, "linecolor": _GRID}
    layout = {
        "xaxis": axis | xaxis,
        "yaxis": axis | yaxis,
        "showlegend": len(traces) > 1,
        "legend": {"orientation": "h", "y": 1.04, "yanchor": "bottom"},
        "height": 380,
        "margin": {"l": 60, "r": 30, "t": 12, "b": 52},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#1f2933"},
    }
    return {"id": name, "title": title, "data": traces, "layout": layout}
