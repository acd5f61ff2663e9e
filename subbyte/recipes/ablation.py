"""Which recipes show what each step and each technique of a recipe is worth."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from subbyte.errors import RecipeError
from subbyte.recipes.change import changed, parse_change, value_at
from subbyte.recipes.recipe import Recipe
from subbyte.recipes.steps import STEPS


@dataclass(frozen=True)
class Technique:
    """What can be switched off by options. name: in words, after "without".

    off: values that switch it off, by dotted path. The first path alone says whether a recipe uses it: where
    it holds another value, and its step is one of the recipe's. A path that the recipe does not have is
    a technique that it does not use.
    """

    name: str
    off: Mapping[str, Any]

    def used(self, recipe: Recipe) -> bool:
        """Whether the recipe uses it."""
        path = next(iter(self.off))
        step = path.split(".")[0]
        if step in STEPS and step not in recipe.steps:
            return False
        try:
            return bool(value_at(recipe, path) != self.off[path])
        except RecipeError:
            return False


def _of_training(step: str) -> tuple[Technique, ...]:
    """What every step that trains can do."""
    return (
        Technique(f"pull in {step}", {f"{step}.pull": 0.0}),
        Technique(f"mirrored images in {step}", {f"{step}.mirror": False}),
        Technique(f"warm-up in {step}", {f"{step}.warmup": 0.0}),
        Technique(f"clipping in {step}", {f"{step}.clip": 0.0}),
        Technique(f"running average in {step}", {f"{step}.ema": 0.0}),
        Technique(f"average of the end in {step}", {f"{step}.tail": 0.0}),
        Technique(
            f"images held back in {step}",
            {f"{step}.held_back": 0.0, f"{step}.check": 0, f"{step}.patience": 0},
        ),
    )


_BETWEEN = re.compile(r",(?=\s*[\w.]+\s*=)")  # a value may have commas of its own

#: In the order in which they are tried. One row more for a new option: its path, and the value that is off.
TECHNIQUES: tuple[Technique, ...] = (
    Technique("code books of weights", {"weights.levels": "uniform"}),
    Technique("sparsity", {"weights.pattern": "dense"}),
    Technique("levels of activations", {"activations.levels": "uniform"}),
    Technique("balanced channels", {"activations.balance": "none"}),
    Technique("spared weights", {"weights.spare": 0.0}),
    Technique("spared activations", {"activations.spare": 0.0}),
    Technique("second order in prune", {"prune.method": "magnitude"}),
    Technique("compensation in prune", {"prune.compensate": False}),
    Technique("rounds in prune", {"prune.rounds": 1}),
    Technique("the dense network as target in prune", {"prune.target": "own"}),
    Technique("slopes in prune", {"prune.slopes": False}),
    Technique("weights of outputs in prune", {"prune.outputs": "equal"}),
    Technique("stages in prune", {"prune.stages": ()}),
    Technique("densities by layer in prune", {"prune.share": None}),
    Technique("fitted scales in gptq", {"gptq.fits": 0}),
    Technique("the float network as target in gptq", {"gptq.target": "own"}),
    *_of_training("reconstruct"),
    Technique("AdaRound", {"reconstruct.rounding": "latent"}),
    Technique("unrounded activations in reconstruct", {"reconstruct.drop": 0.0}),
    Technique("all grids in reconstruct", {"reconstruct.grids": "narrow"}),
    *_of_training("distill"),
    Technique("all grids in distill", {"distill.grids": "narrow"}),
    Technique("features in distill", {"distill.features": 0.0}),
    Technique("attention in distill", {"distill.attention": 0.0}),
    Technique("gates in distill", {"distill.gates": 0.0}),
    Technique("labels in distill", {"distill.labels": 0.0}),
    Technique("temperature in distill", {"distill.temperature": 1.0}),
    Technique("zero points in distill", {"distill.offset": 0.0}),
    Technique("range decay in distill", {"distill.range_decay": 0.0}),
    Technique("affine end of distill", {"distill.affine": 0.0}),
    Technique("gradients of weights in distill", {"distill.estimator": "ste"}),
    Technique("gradients of activations in distill", {"distill.activation_estimator": "ste"}),
    Technique("unrounded weights in distill", {"distill.unrounded": 0.0}),
    Technique("weight widths in distill", {"distill.weight_widths": ()}),
    Technique("activation widths in distill", {"distill.activation_widths": ()}),
    Technique("damping in distill", {"distill.damping": 0.0}),
    Technique("freezing in distill", {"distill.freeze": 0.0}),
    Technique("kurtosis in distill", {"distill.kurtosis": 0.0}),
    Technique("bias correction behind distill", {"distill.bias_correction": False}),
)


def ablations(recipe: Recipe) -> dict[str, Recipe]:
    """The recipe without any step, with each alone, with all but each, without each technique that it uses,
    and as it is, by name; every sequence of steps once, shorter ones first."""
    steps = recipe.steps
    named: dict[tuple[str, ...], str] = {steps: recipe.name, (): f"{recipe.name} without steps"}
    for step in steps:
        named.setdefault((step,), f"{recipe.name} only {step}")
    for step in steps:
        named.setdefault(tuple(s for s in steps if s != step), f"{recipe.name} without {step}")
    if not steps:
        named = {(): recipe.name}
    found = {
        name: recipe.model_copy(update={"name": name, "steps": chosen})
        for chosen, name in sorted(named.items(), key=lambda item: len(item[0]))
    }
    whole = found.pop(recipe.name)
    for technique in TECHNIQUES:
        if technique.used(recipe):
            name = f"{recipe.name} without {technique.name}"
            found[name] = changed(recipe, technique.off).model_copy(update={"name": name})
    return {**found, recipe.name: whole}


def variations(recipe: Recipe, texts: Sequence[str]) -> dict[str, Recipe]:
    """The recipe with each of these changes alone, and as it is, by name.

    A change is `PATH=VALUE`, or several of these with commas between.

    Raises RecipeError for a path that the recipe does not have, a value that does not fit, a change that
    changes nothing, and one that is there twice.
    """
    found: dict[str, Recipe] = {}
    for text in texts:
        values = dict(parse_change(part) for part in _BETWEEN.split(text))
        name = f"{recipe.name} with {text}"
        variant = changed(recipe, values).model_copy(update={"name": name})
        if variant.model_copy(update={"name": recipe.name}) == recipe:
            raise RecipeError(f"{text} is what the recipe {recipe.name} says already; give another value")
        if name in found:
            raise RecipeError(f"{text} is given twice")
        found[name] = variant
    return {**found, recipe.name: recipe}
