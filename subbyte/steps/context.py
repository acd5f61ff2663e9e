"""What a step may read: one object, so that steps can be rows of a table."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from subbyte.ir import Graph
from subbyte.quant import Format
from subbyte.quantize.calibrate import Progress
from subbyte.recipes import Step


@dataclass(frozen=True, eq=False)
class Context:
    """What there is to work with.

    graph: quantized, where the step starts; original: the float graph it came from, of the same node names,
    whose weights were rounded. dense: the float graph as it was before steps removed weights from it; None:
    none did. whole: the float graph as it was before steps gave its layers other shapes; None: none did.
    Steps that work on floats get one float graph as both. formats: of the weights that nodes are to have, by
    name.
    images: float32 [N, H, W, C]; none if no step of the recipe needs any. labels: int64 [N], the images'
    class indices; None if they are not known. configuration: of the type in the step's row. seed: of
    everything random. progress: told the step's name and how far it is. work: a folder that keeps state, from
    which an interrupted step goes on to the same result. task: what the outputs mean, a name of tasks.TASKS;
    None: classification.
    """

    graph: Graph
    original: Graph
    images: np.ndarray
    labels: np.ndarray | None
    configuration: Any
    seed: int
    progress: Progress
    work: Path | None = None
    task: str | None = None
    dense: Graph | None = None
    whole: Graph | None = None
    formats: Mapping[str, Format] = field(default_factory=dict)

    @property
    def teacher(self) -> Graph:
        """The float graph of the same shapes whose numbers are wanted."""
        return self.original if self.dense is None else self.dense

    @property
    def network(self) -> Graph:
        """The float graph that was given, whose outputs are wanted."""
        return self.teacher if self.whole is None else self.whole


def function_of(step: Step) -> Callable[[Context], Graph]:
    """The function that a step's row names."""
    function: Callable[[Context], Graph] = _named(step.run)
    return function


def check_step(step: Step, original: Graph, configuration: Any, task: str | None) -> None:
    """Raises before any work what the step's row has a check for."""
    if step.check is not None:
        _named(step.check)(original, configuration, task)


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
