"""Networks that are quantized already when they are imported: kept as they are, or taken back to float32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from subbyte.artifact import Artifact
from subbyte.errors import InputError
from subbyte.importers.table import Imported, is_quantized
from subbyte.passes import optimize
from subbyte.passes.dequantize import dequantize_graph
from subbyte.system.version import __version__


def kept(imported: Imported, classes: tuple[str, ...] | None, provenance: Mapping[str, Any]) -> Artifact:
    """The artifact of a quantized network, which no recipe made. InputError if it is float32."""
    if not is_quantized(imported.graph):
        why = imported.provenance.get("dequantized")
        raise InputError(
            f"the network is float32{f' ({why})' if why else ''}; give a recipe, such as w8a8, to compress it"
        )
    origin = {**provenance, "subbyte": __version__}
    return Artifact(imported.graph, {}, imported.preprocessing, classes, origin)


def dequantized(imported: Imported) -> Imported:
    """The float32 network that the numbers of a quantized one stand for."""
    provenance = {**imported.provenance, "dequantized": "its 8-bit numbers, which the recipe rounds again"}
    return replace(imported, graph=optimize(dequantize_graph(imported.graph)), provenance=provenance)
