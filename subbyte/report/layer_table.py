"""All that is known of an entry's layers, for the report's table and its image of the network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from subbyte.report import svg
from subbyte.report.entry import Entry
from subbyte.report.layers import Histogram, Layer

STEPS = 7  # of a scale of colours, 0 the least
#: Signal over noise, dB, from which on a layer has step 0, 1, ... of the scale of errors.
DECIBELS = (35, 28, 22, 17, 13, 10)
BAR_WIDTH, BAR_HEIGHT = 96, 26  # pixels of a histogram in the table


@dataclass(frozen=True)
class LayerRow:
    """A step of the engine's plan, as `plan.plan_rows` has it, and what was measured of the layer.

    bits: of the weights as the artifact has them; 0 without weights. sqnr: dB, see `layer_error`; infinite
    where nothing differs. kl: nats that the class scores' divergence grows by if this layer alone has that
    width. The last two are None where not measured; layer is None if the graph has no such node.
    """

    plan: Mapping[str, Any]
    bits: int
    layer: Layer | None
    sqnr: float | None
    kl: float | None

    @property
    def name(self) -> str:
        """The node's name."""
        return str(self.plan["name"])

    @property
    def histogram(self) -> Histogram | None:
        """Of the layer's weights; None if it has none."""
        return None if self.layer is None else self.layer.weights


def layer_rows(entry: Entry, sensitivity: Sequence[Mapping[str, Any]] = ()) -> list[LayerRow]:
    """A row per step of the plan. sensitivity: as `Report.sensitivity`."""
    layers = {layer.name: layer for layer in entry.layers}
    kl = {(r["layer"], r["bits"]): float(r["kl"]) for r in sensitivity if r["kind"] == "weights"}
    rows = []
    for step in entry.plan:
        name, bits = step["name"], weight_bits(step["requested"]) if step["weight_bytes"] else 0
        rows.append(LayerRow(step, bits, layers.get(name), entry.sqnr.get(name), kl.get((name, bits))))
    return rows


def weight_bits(precision: str) -> int:
    """Of the weights in "int4 uint8", "int3+book uint8", "fp16 fp32"; of "uint8" (no weights): 0."""
    found = re.match(r"[a-z]+(\d+).* ", precision)
    return int(found.group(1)) if found else 0


def time_step(row: LayerRow, most: float) -> int | None:
    """0 .. STEPS - 1 for the share of time, relative to the `most` of any layer; None if not measured."""
    share = row.plan["share"]
    return None if share is None or most <= 0 else min(STEPS - 1, int(STEPS * share / most))


def error_step(row: LayerRow) -> int | None:
    """0 (little noise) .. STEPS - 1; None if not measured."""
    sqnr = row.sqnr
    return None if sqnr is None else sum(sqnr < least for least in DECIBELS)


def histogram_drawing(weights: Histogram, name: str) -> svg.Markup:
    """The distribution as a small filled curve of steps; what it shows in words for everyone else."""
    counts, most = weights.counts, max(weights.counts)
    width = BAR_WIDTH / len(counts)
    path = f"M0 {BAR_HEIGHT}"
    for count in counts:
        path += f"V{BAR_HEIGHT * (1 - count / most):.1f}h{width:.2f}"
    shape = svg.element("path", d=f"{path}V{BAR_HEIGHT}Z")
    return svg.drawing(
        BAR_WIDTH,
        BAR_HEIGHT,
        f"{name}: {weights.total:,} weights, {described(weights)}",
        [shape],
        class_="histogram",
        preserveAspectRatio="none",
    )


def described(weights: Histogram) -> str:
    """The bins in words."""
    low, high = (f"{end:.3g}".replace("-", "−") for end in (weights.low, weights.high))
    return f"{'float' if weights.bits is None else f'{weights.bits}-bit'} levels from {low} to {high}"
