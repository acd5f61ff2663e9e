"""From a file of an earlier run: its rounded weights and grids instead of new ones, to be trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subbyte.artifact import Artifact, load
from subbyte.artifact.digest import graph_digest
from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.preprocess import Preprocessing
from subbyte.quant import QTensor
from subbyte.recipes import STEPS, Recipe

#: Steps that round the float weights: what a file begins with would be lost.
ROUNDING = ("gptq",)


@dataclass(frozen=True)
class Start:
    """The artifact, and what it is called."""

    name: str
    artifact: Artifact

    def provenance(self) -> dict[str, Any]:
        """What a file that begins with it says about it."""
        recipe = self.artifact.recipe
        return {"start": {"file": self.name, "digest": graph_digest(self.artifact.graph), "recipe": recipe}}


def read_start(path: str | Path, preprocessing: Preprocessing) -> Start:
    """The artifact at `path`. Raises ArtifactError if it is none, InputError if its images are other ones."""
    artifact = load(path)
    if artifact.preprocessing != preprocessing:
        raise InputError(
            f"{path} reads images as {artifact.preprocessing}, the network as {preprocessing}; begin with a "
            "file that was made of this network"
        )
    return Start(Path(path).name, artifact)


def check_steps(recipe: Recipe) -> None:
    """InputError unless all steps, and there are some, train a quantized network."""
    able = [name for name, step in STEPS.items() if not step.unrounded and name not in ROUNDING]
    if not recipe.steps:
        raise InputError(f"the recipe {recipe.name} has no steps, which go on from a file: {', '.join(able)}")
    for name in recipe.steps:
        if name not in able:
            raise InputError(
                f"the step {name!r} works on float weights; what goes on from a file: {', '.join(able)}"
            )


def checked_start(start: Graph, graph: Graph) -> Graph:
    """`start`, a quantized form of the float `graph`, split for integers. InputError if it is none: it has to
    have the values and layers of the float graph, some quantized."""
    for what, wanted, found in (
        ("values", _values(graph), _values(start)),
        ("layers", _layers(graph), _layers(start)),
    ):
        if wrong := [name for name, one in wanted.items() if found.get(name) != one]:
            raise InputError(
                f"the file to begin with is no quantized form of the network: {len(wrong)} of its {what} "
                f"differ, like {wrong[0]!r}"
            )
    if not any(isinstance(node.params.get("weight"), QTensor) for node in start.nodes):
        raise InputError("the file to begin with is not quantized; give it as the model")
    return start


def _values(graph: Graph) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in graph.values.items()}


def _layers(graph: Graph) -> dict[str, tuple[str, str, tuple[int, ...]]]:
    return {node.name: (node.op, node.output, _shape(node.params.get("weight"))) for node in graph.nodes}


def _shape(weight: Any) -> tuple[int, ...]:
    if weight is None:
        return ()
    return tuple((weight.codes if isinstance(weight, QTensor) else weight).shape)
