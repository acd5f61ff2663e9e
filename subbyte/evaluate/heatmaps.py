"""The report's heat maps: accuracy by corruption, damage by layer and width."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from subbyte.evaluate.figures import figure

if TYPE_CHECKING:
    from subbyte.evaluate.entry import Entry

ACCURACY = [[0, "#b3322b"], [0.25, "#e8a33d"], [0.5, "#f3e9b5"], [0.75, "#9ccb86"], [1, "#2c7a4b"]]
DAMAGE = [[0, "#f4f6f8"], [0.5, "#f0b95b"], [1, "#a3201d"]]
LEAST_KL = 1e-4  # nats; below it, all is white
ROW = 34  # pixels


def corruption_heatmap(entries: Sequence[Entry]) -> dict[str, Any] | None:
    """Top-1 in per cent, entries by families, mean of the severities. None if nothing was measured."""
    measured = [(entry, robust) for entry in entries if (robust := entry.robustness) is not None]
    if not measured:
        return None
    shares = [
        [100 * float(robust.clean.mean()), *(100 * float(x) for x in robust.grid.mean(axis=1))]
        for _, robust in measured
    ]
    families = ["clean", *(family.replace("_", " ") for family in measured[0][1].families)]
    trace = {
        "type": "heatmap",
        "x": families,
        "y": [entry.name for entry, _ in measured],
        "z": shares,
        "text": [[f"{share:.0f}" for share in row] for row in shares],
        "texttemplate": "%{text}",
        "colorscale": ACCURACY,
        "zmin": 0,
        "zmax": 100,
        "xgap": 2,
        "ygap": 2,
        "hovertemplate": "%{y}, %{x}: %{z:.1f} %<extra></extra>",
        "colorbar": {"title": {"text": "top-1, %", "side": "right"}, "thickness": 12},
    }
    return _map("corruptions", "Corrupted pictures", trace, rows=len(measured), labels=110)


def sensitivity_heatmaps(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each layer's width alone adds to the class scores' KL divergence, one map a kind."""
    titles = {"weights": "Weights, layer by layer", "activations": "Activations, layer by layer"}
    return [
        _damage(kind, title, [row for row in rows if row["kind"] == kind])
        for kind, title in titles.items()
        if any(row["kind"] == kind for row in rows)
    ]


def _damage(kind: str, title: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    widths = sorted({row["bits"] for row in rows}, reverse=True)
    found = {(row["layer"], row["bits"]): row for row in rows}
    cells = [[found.get((layer, bits)) for layer in layers] for bits in widths]
    trace = {
        "type": "heatmap",
        "x": layers,
        "y": [f"{bits} bits" for bits in widths],
        "z": [[None if c is None else math.log10(max(c["kl"], LEAST_KL)) for c in line] for line in cells],
        "text": [
            ["" if c is None else f"KL {c['kl']:.2g}, block {c['sqnr']:.1f} dB" for c in line]
            for line in cells
        ],
        "hovertemplate": "%{x}, %{y}: %{text}<extra></extra>",
        "hoverongaps": False,
        "colorscale": DAMAGE,
        "zmin": math.log10(LEAST_KL),
        "zmax": 0,
        "xgap": 1,
        "ygap": 1,
        "colorbar": {
            "title": {"text": "KL, nats", "side": "right"},
            "thickness": 12,
            "tickvals": [-4, -3, -2, -1, 0],
            "ticktext": ["≤ 0.0001", "0.001", "0.01", "0.1", "≥ 1"],
        },
    }
    return _map(f"sensitivity-{kind}", title, trace, rows=len(widths), labels=170)


def _map(name: str, title: str, trace: dict[str, Any], rows: int, labels: int) -> dict[str, Any]:
    """labels: pixels for those below."""
    small = {
        "tickangle": -60,
        "automargin": True,
        "tickfont": {"size": 10 if len(trace["x"]) < 40 else 7},
        "showgrid": False,
        "dtick": 1,
    }
    plot = figure(
        name,
        title,
        [trace],
        small,
        {"automargin": True, "autorange": "reversed", "ticksuffix": "  ", "showgrid": False},
    )
    plot["layout"]["height"] = max(170, rows * ROW + 24) + labels
    return plot
