"""What every compression of one network has in common, whatever its recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from subbyte.artifact import Artifact
from subbyte.compress.graph import compress
from subbyte.compress.start import Start
from subbyte.ir import Graph, verify
from subbyte.preprocess import Preprocessing
from subbyte.quantize.calibrate import Progress
from subbyte.quantize.rate import with_short_scales
from subbyte.recipes import Recipe
from subbyte.steps.teacher import check_normalization
from subbyte.system.version import __version__


@dataclass(frozen=True, eq=False)
class Job:
    """graph: float32, optimized. preprocessing, classes, provenance: as the artifact will have them, the last
    without what `artifact` adds. seed: None for the recipe's. progress, work, threads,
    task: see `compress`. start: what `compress` begins with, if not with float weights."""

    graph: Graph
    preprocessing: Preprocessing
    classes: tuple[str, ...] | None
    provenance: Mapping[str, Any]
    seed: int | None
    progress: Progress
    work: Path | None
    threads: int
    task: str | None = None
    start: Start | None = None

    def compressed(
        self, recipe: Recipe, calibration: Iterable[np.ndarray], labels: np.ndarray | None
    ) -> Artifact:
        """The network by this recipe. Raises also InputError for a teacher of other images."""
        for step in recipe.steps:
            if (teacher := getattr(recipe.configuration(step), "teacher", None)) is not None:
                check_normalization(teacher, self.preprocessing)
        graph = compress(
            self.graph,
            recipe,
            calibration,
            labels=labels,
            seed=self.seed,
            progress=self.progress,
            work=self.work,
            threads=self.threads,
            task=self.task,
            start=None if self.start is None else self.start.artifact.graph,
        )
        if self._coding(recipe) == "entropy":
            graph = verify(with_short_scales(graph))
        return self.artifact(graph, recipe)

    def artifact(self, graph: Graph, recipe: Recipe) -> Artifact:
        """A graph that this recipe made, as the artifact to be written, with the versions used."""
        made = {
            "seed": recipe.seed if self.seed is None else self.seed,
            "subbyte": __version__,
            "torch": torch.__version__,
            "threads": self.threads,
        }
        begun = {} if self.start is None else self.start.provenance()
        provenance = {**self.provenance, **begun, **made}
        return Artifact(
            graph,
            recipe.model_dump(mode="json"),
            self.preprocessing,
            self.classes,
            provenance,
            self._coding(recipe),
        )

    def _coding(self, recipe: Recipe) -> Literal["fixed", "entropy"]:
        """How weights are stored: as the recipe says, and compactly if what training begins with was."""
        begun = "fixed" if self.start is None else self.start.artifact.coding
        return "entropy" if begun == "entropy" else recipe.weights.coding
