"""The report's plots, as plain plotly figures (JSON values)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subbyte.evaluate.report import Entry

OWN, PEER = "#1565c0", "#8d99a6"
_GRID = "#e6e9ed"


def accuracy_over_size(entries: Sequence[Entry]) -> dict[str, Any] | None:
    """Top-1 with its 95 % interval over file size. None if fewer than two entries have both."""
    points = [entry for entry in entries if entry.accuracy is not None and entry.file_bytes is not None]
    if len(points) < 2:
        return None
    traces = [
        _points(group, peer) for peer in (False, True) if (group := [p for p in points if p.peer is peer])
    ]
    return _figure(
        "accuracy-over-size",
        "Accuracy over file size",
        traces,
        {"title": {"text": "file size, MB"}, "rangemode": "tozero"},
        {"title": {"text": "top-1, %"}},
    )


def _points(group: Sequence[Entry], peer: bool) -> dict[str, Any]:
    rates, above, below = [], [], []
    for entry in group:
        assert entry.accuracy is not None
        low, high = entry.accuracy.interval()
        rates.append(100 * entry.accuracy.top1_rate)
        above.append(100 * high - rates[-1])
        below.append(rates[-1] - 100 * low)
    return {
        "type": "scatter",
        "mode": "markers+text",
        "x": [(entry.file_bytes or 0) / 1e6 for entry in group],
        "y": rates,
        "text": [entry.name for entry in group],
        "textposition": "middle right",
        "cliponaxis": False,
        "marker": {"size": 11, "color": PEER if peer else OWN},
        "error_y": {"array": above, "arrayminus": below, "color": "#c3cad2", "thickness": 1.5, "width": 4},
        "hovertemplate": "%{text}: %{y:.2f} %, %{x:.2f} MB<extra></extra>",
    }


def latency_bars(entries: Sequence[Entry]) -> dict[str, Any] | None:
    """Median latency for one picture. None if nothing was timed."""
    timed = [entry for entry in entries if entry.latency_ms is not None][::-1]
    if not timed:
        return None
    values = [entry.latency_ms or 0.0 for entry in timed]
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": values,
        "y": [entry.name for entry in timed],
        "text": [f" {value:.2f} ms" for value in values],
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": [PEER if entry.peer else OWN for entry in timed]},
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
        "showlegend": False,
        "height": 360,
        "margin": {"l": 60, "r": 90, "t": 12, "b": 52},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#1f2933"},
    }
    return {"id": name, "title": title, "data": traces, "layout": layout}
