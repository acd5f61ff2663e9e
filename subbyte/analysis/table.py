"""The table of a sensitivity analysis, and the file it grows in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, PlainSerializer, SkipValidation, ValidationError, model_validator

from subbyte.analysis.components import KINDS
from subbyte.analysis.degradation import Degradation
from subbyte.artifact.digest import graph_digest
from subbyte.artifact.strict_json import dump_json
from subbyte.errors import GraphError, InputError
from subbyte.ir import Graph
from subbyte.quant import Format, activation_format, weight_format
from subbyte.quant.format import FLOAT_FORMATS, INT8, UINT8, pattern_named
from subbyte.quant.pattern import Pattern
from subbyte.recipes import Recipe
from subbyte.system.text_file import read_text, write_text

#: Of what the rows mean; rows of another version are not used.
VERSION = 2
MAX_BYTES = 1 << 26

Kind = Literal["weights", "activations"]
#: What every change is compared with.
EIGHT_BITS: dict[Kind, Format] = {"weights": INT8, "activations": UINT8}


def _analysed_weights(value: object) -> Format:
    """A format of weights, or a float one: the layer then runs in floating point. GraphError for another."""
    return FLOAT_FORMATS.get(str(value)) or weight_format(value)


#: From what people write to a format.
PARSE: dict[str, Callable[[object], Format]] = {
    "weights": _analysed_weights,
    "activations": activation_format,
}
#: Keys of a row, and of the table, in files of earlier versions.
OLD_KEYS = {"damage": "degradation", "bits": "format", "pictures": "images"}


class Row(BaseModel):
    """What one change does to a network of 8-bit weights and activations, biases corrected.

    kind: what has this format now: the weights of a layer (which computes in float32 if that is a float
    format), or what some nodes make. nodes: the layer,
    or the nodes whose outputs share a grid. component, stage: see components.py, of the first node.
    elements: weights, or numbers per image. degradation: of the network, against float32.
    block_sqnr: of the output of the block that holds the layer, dB, against float32.
    """

    model_config = ConfigDict(frozen=True)

    kind: Kind
    nodes: tuple[str, ...]
    format: Annotated[Format, SkipValidation, PlainSerializer(str)]
    component: str
    stage: str
    elements: int
    degradation: Degradation
    block_sqnr: float

    @model_validator(mode="before")
    @classmethod
    def _read(cls, found: Any) -> Any:
        """The format from its text, or from bits as earlier versions wrote them."""
        if not isinstance(found, dict):
            return found
        row = _renamed(found)
        try:
            return {**row, "format": PARSE[str(row.get("kind"))](row.get("format"))}
        except (GraphError, KeyError) as error:
            raise ValueError(str(error)) from None


@dataclass(frozen=True)
class Summary:
    """Rows of a component or stage. kl: added by one change, nats, mean of the rows; worst: the most.
    sqnr: mean, dB. All by format."""

    name: str
    layers: int
    elements: int
    kl: Mapping[Format, float]
    worst: Mapping[Format, float]
    sqnr: Mapping[Format, float]


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

    @model_validator(mode="before")
    @classmethod
    def _read(cls, found: Any) -> Any:
        return _renamed(found) if isinstance(found, dict) else found

    def row(self, kind: Kind, node: str, format: Format) -> Row | None:
        """The row of a layer's weights, or of the activations that the node takes part in making."""
        for row in self.rows:
            if row.kind == kind and row.format == format and node in row.nodes:
                return row
        return None

    def added_kl(self, row: Row) -> float:
        """What the change adds to the loss of 8 bits, KL of a classifier, at least 0; of a layer in floating
        point what it takes away, at most 0."""
        added = row.degradation.loss - self.base.loss
        return min(0.0, added) if row.format.is_float else max(0.0, added)

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
        by_format: dict[Format, list[Row]] = {}
        for row in rows:
            by_format.setdefault(row.format, []).append(row)
        elements = {row.nodes: row.elements for row in rows}
        added = {format: [self.added_kl(row) for row in found] for format, found in by_format.items()}
        return Summary(
            name=name,
            layers=len(elements),
            elements=sum(elements.values()),
            kl={format: float(np.mean(values)) for format, values in added.items()},
            worst={format: max(values) for format, values in added.items()},
            sqnr={f: float(np.mean([row.block_sqnr for row in found])) for f, found in by_format.items()},
        )

    def maps(self) -> list[dict[str, Any]]:
        """The rows as report.heatmaps.sensitivity_heatmaps takes them, those of quantized formats; "bits" is
        `Format.short`."""
        return [
            {
                "kind": row.kind,
                "layer": row.nodes[0],
                "bits": row.format.short,
                "kl": self.added_kl(row),
                "sqnr": row.block_sqnr,
                "unit": self.base.unit,
            }
            for row in self.rows
            if not row.format.is_float
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


def _renamed(found: dict[str, Any]) -> dict[str, Any]:
    return {OLD_KEYS.get(key, key): value for key, value in found.items()}


def parse_formats(kind: Kind, text: str) -> tuple[Format, ...]:
    """ "8,4,int3" as formats, each one that weights or activations can have; for weights also "fp16" and
    "fp32". InputError otherwise."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    bits = {str(one): one for one in range(100)}
    try:
        found = [PARSE[kind](bits.get(part, part)) for part in parts]
    except GraphError as error:
        raise InputError(str(error)) from None
    return tuple(dict.fromkeys(found))


def parse_floats(option: str, text: str) -> tuple[Format, ...]:
    """ "fp16,fp32" as formats. InputError for anything else."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [part for part in parts if part not in FLOAT_FORMATS]
    if unknown:
        raise InputError(f"{option} can have {', '.join(FLOAT_FORMATS)}, not {unknown[0]!r:.80}")
    return tuple(FLOAT_FORMATS[part] for part in dict.fromkeys(parts))


def parse_patterns(option: str, text: str) -> tuple[Pattern, ...]:
    """ "4x16:50,2:4" as sparsity patterns. InputError for anything else."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    try:
        found = [pattern_named(part) for part in parts]
    except GraphError as error:
        raise InputError(f"{option}: {error}") from None
    return tuple(dict.fromkeys(found))


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
