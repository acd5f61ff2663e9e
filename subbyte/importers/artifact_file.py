"""A float32 artifact as a network to compress: what `compress --recipe fp32` wrote."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from subbyte.artifact import load
from subbyte.errors import InputError
from subbyte.importers.table import Imported
from subbyte.ir import Graph
from subbyte.preprocess import Preprocessing
from subbyte.system.printable import printable

#: What an artifact's provenance says of how it was made, and the next compression says of itself.
HOW = ("calibration", "seed", "subbyte", "threads", "torch")


def from_artifact(source: str, weights: str | None, preprocessing: Preprocessing | None) -> Imported:
    """The artifact's graph, preprocessing and class names; where it came from stays, and the file joins it.

    Raises ArtifactError for a file that is no artifact, InputError if its network is compressed already.
    """
    path = Path(source)
    artifact = load(path)
    if not _is_float32(artifact.graph):
        raise InputError(f"{source} is compressed already; give the float32 artifact (recipe fp32)")
    file = {"file": printable(path.name), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    origin = {key: value for key, value in artifact.provenance.items() if key not in HOW}
    provenance = {**origin, "artifact": file}
    return Imported(artifact.graph, artifact.preprocessing, provenance, artifact.classes)


def _is_float32(graph: Graph) -> bool:
    params = [param for node in graph.nodes for param in node.params.values()]
    return all(isinstance(param, np.ndarray) and param.dtype == np.float32 for param in params) and all(
        value.q is None for value in graph.values.values()
    )
