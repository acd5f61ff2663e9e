"""The report's heat maps: accuracy by corruption, degradation by layer and width. Colours are classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from subbyte.report import svg

if TYPE_CHECKING:
    from subbyte.report.entry import Entry

STEPS = 7  # of a scale of colours, 0 the least
LEAST_KL = 1e-4  # nats; up to it, a layer has step 0
COLUMN, ROW, LEFT, LETTER = 15, 28, 56, 6  # pixels
LETTERS = 26  # of a layer's name, its end


@dataclass(frozen=True)
class CorruptionTable:
    """Top-1 in per cent, mean of the severities. headings: "clean", then the families. rows: an entry's
    name, and per heading the number and its step of the scale of degradation (beside the clean images)."""

    headings: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[float, int]]]]


@dataclass(frozen=True)
class Heatmap:
    """A drawing with its heading; id: unique in the page."""

    id: str
    title: str
    drawing: svg.Markup
    unit: str = "nats"  # of a KL divergence; else of a square error


def corruption_table(entries: Sequence[Entry]) -> CorruptionTable | None:
    """Entries by families. None if nothing was measured."""
    measured = [(entry, robust) for entry in entries if (robust := entry.robustness) is not None]
    if not measured:
        return None
    rows = []
    for entry, robust in measured:
        shares = [float(robust.clean.mean()), *(float(x) for x in robust.grid.mean(axis=1))]
        steps = [min(STEPS - 1, int(STEPS * (1 - share))) for share in shares]
        rows.append((entry.name, list(zip([100 * share for share in shares], steps, strict=True))))
    families = measured[0][1].families
    return CorruptionTable(["clean", *(family.replace("_", " ") for family in families)], rows)


def sensitivity_heatmaps(rows: Sequence[Mapping[str, Any]]) -> list[Heatmap]:
    """What each layer's width alone adds to the loss (KL divergence of class scores), one map a kind."""
    unit = str(rows[0].get("unit", "nats")) if rows else ""
    titles = {"weights": "Sensitivity of weights", "activations": "Sensitivity of activations"}
    return [
        Heatmap(
            f"sensitivity-{kind}",
            title,
            _degradation(title, [row for row in rows if row["kind"] == kind], unit),
            unit,
        )
        for kind, title in titles.items()
        if any(row["kind"] == kind for row in rows)
    ]


def degradation_step(kl: float) -> int:
    """0 up to LEAST_KL nats, STEPS - 1 from 1 nat on, logarithmic between."""
    share = 1 - math.log10(max(kl, LEAST_KL)) / math.log10(LEAST_KL)
    return min(STEPS - 1, int(STEPS * min(share, 1.0)))


def _wide_first(bits: int | str) -> tuple[int, str]:
    """Formats that say more than bits come last."""
    return (-bits, "") if isinstance(bits, int) else (0, bits)


def _words(bits: int | str) -> str:
    return f"{bits} bits" if isinstance(bits, int) else bits


def _degradation(title: str, rows: Sequence[Mapping[str, Any]], unit: str) -> svg.Markup:
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    widths = sorted({row["bits"] for row in rows}, key=_wide_first)
    parts = [
        svg.text(LEFT - 8, ROW * i + 19, _words(bits), "end", class_="label") for i, bits in enumerate(widths)
    ]
    for row in rows:
        left, top = LEFT + COLUMN * layers.index(row["layer"]), ROW * widths.index(row["bits"])
        loss = f"{'KL' if unit == 'nats' else 'error'} {row['kl']:.2g} {unit}"
        tip = f"{row['layer']}, {_words(row['bits'])}\n{loss}\nblock {row['sqnr']:.1f} dB"
        cell = svg.rect(left, top, COLUMN - 1, ROW - 1)
        parts.append(svg.group(cell, tip=tip, class_=f"h{degradation_step(row['kl'])}"))
    bottom = ROW * len(widths) + 6
    for i, layer in enumerate(layers):
        x = LEFT + COLUMN * i + COLUMN / 2 + 3
        turn = f"rotate(-90 {x:.1f} {bottom})"
        parts.append(svg.text(x, bottom, svg.shortened(layer, LETTERS), "end", class_="tick", transform=turn))
    labels = LETTER * min(LETTERS, max(map(len, layers)))
    return svg.drawing(LEFT + COLUMN * len(layers) + 8, bottom + labels, title, parts, class_="map")
