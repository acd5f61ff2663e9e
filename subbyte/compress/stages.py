"""Pruning in stages: fewer weights stay from one to the next, and all steps of the recipe train between them.

Gradual pruning (arXiv 1710.01878) with a choice in second order and a rate of its own in each stage
(arXiv 2203.07259): what a stage has trained is the float network that the next one prunes further.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from subbyte.ir import Graph
from subbyte.passes.dequantize import real_params
from subbyte.quant import QTensor
from subbyte.quant.format import INT8
from subbyte.quant.sparsity import fuller
from subbyte.quantize.assignment import Assignment
from subbyte.quantize.calibrate import Progress
from subbyte.recipes import Pruning, Recipe, Training
from subbyte.steps.status import Status


def stages_of(recipe: Recipe) -> tuple[int, ...]:
    """Per cent of weights that stay in the stages before the last, which is the recipe's own pattern."""
    return recipe.configuration("prune").stages if "prune" in recipe.steps else ()


def share_of(recipe: Recipe) -> float | None:
    """Of all work, what the recipe asks to be left; None: each pattern says what stays."""
    return recipe.configuration("prune").share if "prune" in recipe.steps else None


def last_stage(recipe: Recipe) -> Recipe:
    """The recipe without stages before."""
    return _with_stages(recipe, ()) if stages_of(recipe) else recipe


def recipe_at(recipe: Recipe, percent: int) -> Recipe:
    """The recipe of a stage, whose steps train as long as the recipe says of stages."""
    pruning: Pruning = recipe.configuration("prune")
    shorter: dict[str, Any] = {}
    for step in recipe.steps:
        if isinstance(training := recipe.configuration(step), Training):
            steps = max(1, round(training.steps * pruning.stage_training)) if training.steps else 0
            length = {"epochs": training.epochs * pruning.stage_training, "steps": steps}
            shorter[step] = training.model_copy(update=length)
    return _with_stages(recipe, (percent,)).model_copy(update=shorter)


def assignments_at(asked: Mapping[str, Assignment], percent: int) -> dict[str, Assignment]:
    """What is asked of the nodes in a stage: weights of 8 bits, of which at least so many per cent stay.

    The next stage begins with the weights that this one has rounded; 8 bits leave them as they were trained.
    """
    return {
        name: replace(found, weights=replace(INT8, pattern=fuller(found.weights.pattern, percent)))
        if found.quantized
        else found
        for name, found in asked.items()
    }


def trained(graph: Graph, made: Graph) -> Graph:
    """The float graph with the weights and biases of the quantized one of the same layers."""
    real = {
        node.name: real_params(made, node)
        for node in made.nodes
        if isinstance(node.params.get("weight"), QTensor)
    }
    nodes = (
        node.with_(params={**node.params, **{role: real[node.name][role] for role in ("weight", "bias")}})
        if node.name in real
        else node
        for node in graph.nodes
    )
    return replace(graph, nodes=tuple(nodes))


class ToldIn:
    """A progress callback of a stage: names are told with it in front, and so is what training tells."""

    def __init__(self, progress: Progress, percent: int) -> None:
        self.progress, self.percent = progress, percent
        if (told := getattr(progress, "status", None)) is not None:
            self.status = lambda status: told(self._named(status))

    def __call__(self, stage: str, done: int) -> None:
        self.progress(f"{self.percent} % kept: {stage}", done)

    def _named(self, status: Status) -> Status:
        return replace(status, run=f"kept-{self.percent}/{status.run}")


def _with_stages(recipe: Recipe, stages: tuple[int, ...]) -> Recipe:
    pruning: Pruning = recipe.configuration("prune")
    return recipe.model_copy(update={"prune": pruning.model_copy(update={"stages": stages})})
