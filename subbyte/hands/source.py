"""Opening the networks of a tracker."""

from __future__ import annotations

from pathlib import Path

from subbyte.artifact import Artifact
from subbyte.errors import InputError
from subbyte.execute.native import Session
from subbyte.ir import Graph

Source = str | Path | Artifact | Graph


def session(source: Source, threads: int = 1, isa: str | None = None) -> tuple[Session, int]:
    """A network in the engine, and the pixels along a side of its input.

    Raises InputError unless that is a square of RGB, and what Session raises.
    """
    opened = Session(source, threads=threads, isa=isa)
    shape = opened.graph.value(opened.graph.input).shape
    if len(shape) != 3 or shape[0] != shape[1] or shape[2] != 3:
        raise InputError(
            f"a hand tracker's networks take a square of RGB, not an input of shape {list(shape)}"
        )
    return opened, int(shape[0])
