"""The grids of a network where the file of another format has others: a note inside that file.

Formats ask for grids that a network lacks (of sums before a residual, of real outputs) or has otherwise (of
a sigmoid). The note names these tensors and says what the network has instead, so that whoever imports the
file again gets its very integers. Other readers do not know the note, and compute what the file says.
"""

from __future__ import annotations

from collections.abc import Mapping

from subbyte.artifact.strict_json import dump_json, parse_json
from subbyte.errors import ArtifactError, GraphError
from subbyte.quant import QParams

#: What the note is called: a metadata property of ONNX, a metadata buffer of TensorFlow Lite.
KEY = "subbyte.grids"
MAX_TEXT = 1 << 20
#: A tensor's name to its 8-bit grid in the network; None: the network has real numbers there.
OwnGrids = Mapping[str, QParams | None]


def to_text(grids: OwnGrids) -> str:
    """The note: JSON, by name null or [scale, zero point of unsigned codes]."""
    return dump_json({name: None if q is None else [q.scale, q.zero_point] for name, q in grids.items()})


def from_text(text: str) -> OwnGrids:
    """What `to_text` wrote; nothing of a text that it cannot have written: then the file is what it says."""
    if len(text) > MAX_TEXT:
        return {}
    try:
        found = parse_json(text)
        if not isinstance(found, dict):
            return {}
        return {name: None if grid is None else QParams(*grid) for name, grid in found.items()}
    except (ArtifactError, GraphError, TypeError):  # TypeError: no pair
        return {}
