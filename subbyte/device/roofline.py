"""A device by its peaks, as a file of profiles/ gives them, with the source of every figure.

The roofline model (Williams, Waterman, Patterson, CACM 52(4), 2009): a layer takes as long as its
multiplications at the peak rate of the formats, or its bytes at the peak bandwidth, whichever is longer.
Weights, inputs and output are each moved once, from and to main memory. These are bounds, not measurements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from subbyte.device.size import node_bytes
from subbyte.device.target import Cost, Layer, Memory
from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.ir.limits import peak_live_bytes
from subbyte.quant import Format
from subbyte.quant.format import parse_format


@dataclass(frozen=True)
class Roofline:
    """A Target. rates: G MAC/s, and mac_energy: pJ of a MAC, by format of the weights; activations: formats
    of the inputs; bandwidth: GB/s; byte_energy: pJ of a byte that is moved."""

    name: str
    rates: Mapping[Format, float]
    mac_energy: Mapping[Format, float]
    activations: frozenset[Format]
    bandwidth: float
    byte_energy: float
    here: bool = False

    def prepare(self, graphs: Mapping[str, Graph]) -> None:
        """Nothing: the profile says all."""

    def supports(self, layer: Layer, weights: Format | None, activations: Format) -> bool:
        """Whether the profile has a rate for these formats."""
        return (weights is None or weights.plain in self.rates) and activations in self.activations

    def cost(self, layer: Layer, weights: Format | None, activations: Format) -> Cost:
        """The longer of what arithmetic and what memory take. InputError for formats that it does not run."""
        if not self.supports(layer, weights, activations):
            raise InputError(f"{self.name} does not run {weights or 'layers'} on {activations} activations")
        moved, seconds, energy = layer.moved(weights, activations), 0.0, 0.0
        if weights is not None:
            seconds = layer.macs / (1e9 * self.rates[weights.plain])
            energy = layer.macs * self.mac_energy[weights.plain]
        seconds = max(seconds, moved / (1e9 * self.bandwidth))
        return Cost(1e3 * seconds, moved, 1e-9 * (energy + moved * self.byte_energy))

    def memory(self, graph: Graph) -> Memory:
        """Values that are alive at once, and parameters as a file holds them."""
        return Memory(peak_live_bytes(graph), sum(map(node_bytes, graph.nodes)))


def read_roofline(found: Mapping[str, Any], where: str) -> Roofline:
    """The device of a profile's tables, called `where` in errors. InputError for a table or figure that is
    missing."""
    try:
        rows = {parse_format(text): row for text, row in found["weights"].items()}
        return Roofline(
            found["name"],
            {format: row["rate"] for format, row in rows.items()},
            {format: row["energy"] for format, row in rows.items()},
            frozenset(map(parse_format, found["activations"]["formats"])),
            found["memory"]["bandwidth"],
            found["memory"]["energy"],
        )
    except KeyError as error:
        raise InputError(f"{where} lacks {error.args[0]}") from None
