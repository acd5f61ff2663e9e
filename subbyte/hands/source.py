"""Opening the networks of a tracker."""

from __future__ import annotations

from pathlib import Path

from subbyte.artifact import Artifact, load
from subbyte.errors import InputError
from subbyte.execute.native import Session
from subbyte.importers import import_model
from subbyte.importers.table import has_suffix
from subbyte.importers.tflite import image_input
from subbyte.ir import Graph
from subbyte.preprocess import Preprocessing

Source = str | Path | Artifact | Graph


def session(source: Source, threads: int = 1, isa: str | None = None) -> tuple[Session, int]:
    """A network in the engine, and the pixels along a side of its input.

    source: an artifact, its path, that of a TensorFlow Lite file, or a graph. The network takes pixels / 255.

    Raises InputError unless its input is a square of RGB, and what importing and Session raise.
    """
    if isinstance(source, (str, Path)) and has_suffix(".tflite")(str(source)):
        height, width, channels = image_input(str(source)).shape
        unit = Preprocessing(height, width, (0.0,) * channels, (1.0,) * channels)
        source = import_model(source, preprocessing=unit).graph
    opened = Session(source, threads=threads, isa=isa)
    shape = opened.graph.value(opened.graph.input).shape
    if len(shape) != 3 or shape[0] != shape[1] or shape[2] != 3:
        raise InputError(
            f"a hand tracker's networks take a square of RGB, not an input of shape {list(shape)}"
        )
    return opened, int(shape[0])


def unit(source: Source, size: int) -> int:
    """Pixels along the side of a network's square that its points count: those of its input, `size`, or, of
    an artifact for another resolution than its network was made for, of that one's."""
    if isinstance(source, Graph):
        return size
    if isinstance(source, (str, Path)):
        if not has_suffix(".subbyte")(str(source)):
            return size
        source = load(source)
    made_for = source.provenance.get("resolution", {}).get("made_for", [size])
    return int(made_for[0])
