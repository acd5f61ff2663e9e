"""The table of a sensitivity analysis, and the file it grows in."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from subbyte.analysis.components import KINDS
from subbyte.analysis.degradation import Degradation
from subbyte.artifact.digest import graph_digest
from subbyte.artifact.strict_json import dump_json
from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.quant.qparams import ACTIVATION_BITS
from subbyte.quant.qtensor import WEIGHT_BITS
from subbyte.recipes import Recipe
from subbyte.system.text_file import read_text, write_text

#: Of what the rows mean; rows of another version are not used.
VERSION = 2
MAX_BYTES = 1 << 26

Kind = Literal["weights", "activations"]


class Row(BaseModel):
    """What one change does to a network of 8-bit weights and activations, biases corrected.

    kind: what has `bits` bits now: the weights of a layer, or what some nodes make. nodes: the layer,
    or the nodes whose outputs share a grid. component, stage: see components.py, of the first node.
    elements: weights, or numbers per image. degradation: of the network, against float32.
    block_sqnr: of the output of the block that holds the layer, dB, against float32.
    """

    model_config = ConfigDict(frozen=True)

    kind: Kind
    nodes: tuple[str, ...]
    bits: int
    component: str
    stage: str
    elements: int
    degradation: Degradation
    block_sqnr: float


class Summary(BaseModel):
    """Rows of a component or stage. kl: added by one change, nats, mean of the rows; worst: the most.
    sqnr: mean, dB. All by bits."""

    name: str
    layers: int
    elements: int
    kl: dict[int, float]
    worst: dict[int, float]
    sqnr: dict[int, float]


class Sensitivity(BaseModel):
    """key: of graph, images and settings. network: digest of the float graph, empty in older files.
    base: degradation of 8 bits everywhere."""

    version: int = VERSION
    key: str
    network: str = ""
    model: str
    images: int
    base: Degradation
    rows: list[Row] = []

    def row(self, kind: Kind, node: str, bits: int) -> Row | None:
        """The row of a layer's weights, or of the activations that the node takes part in making."""
        for row in self.rows:
            if row.kind == kind and row.bits == bits and node in row.nodes:
                return row
        return None

    def added_kl(self, row: Row) -> float:
        """What the change adds to the loss of 8 bits, KL of a classifier, at least 0."""
        return max(0.0, row.degradation.loss - self.base.loss)

    def grouped(self, kind: Kind, by: Literal["component", "stage"]) -> list[Summary]:
        """A summary per component (as titled in components.KINDS) or stage, in order."""
        rows = [row for row in self.rows if row.kind == kind]
        order = list(KINDS) if by == "component" else list(dict.fromkeys(row.stage for row in rows))
        found = {name: [row for row in rows if getattr(row, by) == name] for name in order}
        return [
            self._summary(KINDS.get(name, name) if by == "component" else name, members)
            for name, members in found.items()
            if members
        ]

    def _summary(self, name: str, rows: list[Row]) -> Summary:
        by_bits: dict[int, list[Row]] = {}
        for row in rows:
            by_bits.setdefault(row.bits, []).append(row)
        elements = {row.nodes: row.elements for row in rows}
        added = {bits: [self.added_kl(row) for row in found] for bits, found in by_bits.items()}
        return Summary(
            name=name,
            layers=len(elements),
            elements=sum(elements.values()),
            kl={bits: float(np.mean(values)) for bits, values in added.items()},
            worst={bits: max(values) for bits, values in added.items()},
            sqnr={bits: float(np.mean([r.block_sqnr for r in found])) for bits, found in by_bits.items()},
        )

    def maps(self) -> list[dict[str, Any]]:
        """The rows as evaluate.heatmaps.sensitivity_heatmaps takes them."""
        return [
            {
                "kind": row.kind,
                "layer": row.nodes[0],
                "bits": row.bits,
                "kl": self.added_kl(row),
                "sqnr": row.block_sqnr,
                "unit": self.base.unit,
            }
            for row in self.rows
        ]

    def save(self, path: Path) -> None:
        """Replaces the file at once, so that it is whole whenever the program ends. InputError if it cannot
        be written."""
        write_text(path, self.model_dump_json(indent=1))


def read_sensitivity(path: Path) -> Sensitivity:
    """Reads a file that `Sensitivity.save` wrote. InputError if it is none."""
    text = read_text("a sensitivity analysis from", path, MAX_BYTES)
    try:
        table = Sensitivity.model_validate_json(text)
    except ValidationError:
        raise InputError(f"{path} is not the result of a sensitivity analysis") from None
    if table.version != VERSION:
        raise InputError(f"{path} was written by another version of subbyte; run the analysis again")
    return table


def check_widths(kind: Kind, text: str) -> tuple[int, ...]:
    """ "8,4,3,2" as numbers, each a width that weights or activations can have. InputError otherwise."""
    known = WEIGHT_BITS if kind == "weights" else ACTIVATION_BITS
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdigit() and int(part) in known for part in parts):
        raise InputError(f"{kind} can have {', '.join(map(str, known))} bits, got {text!r}")
    return tuple(dict.fromkeys(int(part) for part in parts))


def key_of(graph: Graph, recipe: Recipe, images: np.ndarray, settings: dict[str, object]) -> str:
    """SHA-256 of everything that the rows depend on."""
    digest = hashlib.sha256()
    relevant = {"precision", "weights", "activations", "override", "seed"}
    described = [
        graph_digest(graph),
        recipe.model_dump(mode="json", include=relevant, exclude_defaults=True),
        settings,
        list(images.shape),
        VERSION,
    ]
    digest.update(dump_json(described).encode())
    digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()
