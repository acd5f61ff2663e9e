"""Recipes that show what each step is worth."""

from __future__ import annotations

from typing import Any

import pytest

from subbyte.errors import RecipeError
from subbyte.recipes import STEPS, Recipe, load_recipe
from subbyte.recipes.ablation import TECHNIQUES, ablations, variations
from subbyte.recipes.change import value_at


def steps(*names: str) -> dict[str, tuple[str, ...]]:
    recipe = Recipe.model_validate({"name": "r", "steps": names, "seed": 7})
    made = ablations(recipe)
    assert all(variant.name == name and variant.seed == 7 for name, variant in made.items())
    return {name: variant.steps for name, variant in made.items()}


def test_three_steps() -> None:
    a, b, c = "bias_correction", "reconstruct", "distill"
    assert steps(a, b, c) == {
        "r without steps": (),
        f"r only {a}": (a,),
        f"r only {b}": (b,),
        f"r only {c}": (c,),
        f"r without {a}": (b, c),
        f"r without {b}": (a, c),
        f"r without {c}": (a, b),
        "r": (a, b, c),
    }


def test_sequences_come_once() -> None:
    assert steps() == {"r": ()}
    assert steps("distill") == {"r without steps": (), "r": ("distill",)}
    assert list(steps("reconstruct", "distill").items()) == [
        ("r without steps", ()),
        ("r only reconstruct", ("reconstruct",)),
        ("r only distill", ("distill",)),
        ("r", ("reconstruct", "distill")),
    ]


WHOLE = load_recipe("w4a8-distill")


def differences(a: Recipe, b: Recipe) -> dict[str, Any]:
    """The dotted paths at which b says something else, and what."""
    found: dict[str, Any] = {}

    def walk(one: Any, other: Any, path: str) -> None:
        if isinstance(other, dict):
            for key in {**one, **other}:
                walk(one.get(key), other.get(key), f"{path}.{key}" if path else key)
        elif one != other and path != "name":
            found[path] = other

    walk(a.model_dump(mode="json"), b.model_dump(mode="json"), "")
    return found


def test_techniques_that_the_recipe_uses_are_switched_off_one_by_one() -> None:
    made = ablations(WHOLE)
    assert list(made)[-4:] == [
        "w4a8-distill without code books of weights",
        "w4a8-distill without spared weights",
        "w4a8-distill without pull in reconstruct",
        "w4a8-distill",
    ]
    assert differences(WHOLE, made["w4a8-distill without code books of weights"]) == {
        "weights.levels": "uniform"
    }
    assert differences(WHOLE, made["w4a8-distill without spared weights"]) == {"weights.spare": None}
    assert differences(WHOLE, made["w4a8-distill without pull in reconstruct"]) == {"reconstruct.pull": 0.0}
    without_steps = load_recipe("w4a8")
    assert "w4a8 without pull in reconstruct" not in ablations(without_steps)  # its step is not there
    assert "w4a8 without code books of weights" in ablations(without_steps)


def test_every_technique_can_be_switched_off_in_a_recipe_that_uses_all() -> None:
    on = {"pull": 1.0, "warmup": 0.1, "clip": 1.0, "held_back": 0.1, "check": 3, "patience": 2}
    distilled = {
        **dict.fromkeys(("features", "attention", "gates", "labels", "temperature", "offset"), 0.5),
        **dict.fromkeys(("range_decay", "affine", "unrounded", "damping", "freeze", "kurtosis"), 0.5),
        **dict.fromkeys(("estimator", "activation_estimator"), "ewgs"),
        **dict.fromkeys(("weight_widths", "activation_widths"), (8, 6)),
        "bias_correction": True,
    }
    recipe = Recipe.model_validate(
        {
            "name": "r",
            "steps": ("prune", "gptq", "reconstruct", "distill"),
            "weights": {"bits": 4, "levels": "learned", "pattern": "2:4", "spare": 0.1},
            "activations": {"bits": 4, "levels": "learned", "balance": "all", "spare": 0.1},
            "prune": {"stages": [75], "share": 0.5},
            "reconstruct": {"epochs": 1.0, "mirror": True, "ema": 0.9, "drop": 0.5, "grids": "all", **on},
            "distill": {"epochs": 1.0, "mirror": True, "tail": 0.5, "grids": "all", **on, **distilled},
        }
    )
    used = [technique for technique in TECHNIQUES if technique.used(recipe)]
    assert {t.name for t in TECHNIQUES} - {t.name for t in used} == {
        "average of the end in reconstruct",
        "running average in distill",
        "AdaRound",  # which has no pull
    }
    made = ablations(recipe)
    for technique in used:
        variant = made[f"r without {technique.name}"]
        assert all(value_at(variant, path) == off for path, off in technique.off.items())
        assert not technique.used(variant)


def test_paths_of_the_table_are_options() -> None:
    every = Recipe.model_validate({"name": "r", "steps": tuple(STEPS)})
    for technique in TECHNIQUES:
        for path in technique.off:
            value_at(every, path)


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("distill.epochs=1", {"distill.epochs": 1.0}),
        (" distill.epochs = 1 , distill.clip = 2", {"distill.epochs": 1.0, "distill.clip": 2.0}),
        ("weights.levels=uniform", {"weights.levels": "uniform"}),
        ('weights.levels="uniform"', {"weights.levels": "uniform"}),
        ("first.weights=int4", {"first.weights": 4}),
        ('steps=["distill", "bias_correction"]', {"steps": ["distill", "bias_correction"]}),
        ("seed=4", {"seed": 4}),
    ],
)
def test_an_option_is_changed_by_its_path(text: str, changes: dict[str, Any]) -> None:
    made = variations(WHOLE, [text])
    assert list(made) == [f"w4a8-distill with {text}", "w4a8-distill"]
    variant = made[f"w4a8-distill with {text}"]
    assert variant.name == f"w4a8-distill with {text}"
    assert differences(WHOLE, variant) == changes
    assert made["w4a8-distill"] == WHOLE


def test_an_option_of_what_is_listed_is_changed_by_its_number() -> None:
    variant = variations(WHOLE, ["override.0.weights=4"])["w4a8-distill with override.0.weights=4"]
    assert str(variant.override[0].weights) == str(WHOLE.weights.bits)
    assert variant.override[0].role == "depthwise"


BAD = {
    "distill.epoch=1": "there is no option 'distill.epoch': the options in distill are epochs, batch, ",
    "distil.epochs=1": "there is no option 'distil.epochs': the options are name, ",
    "override.3.weights=4": "there is no option 'override.3.weights': of override the recipe has 1, counted",
    "override.first.weights=4": "of override the recipe has 1, counted from 0",
    "weights.bits.x=4": "there is no option 'weights.bits.x': weights.bits is one value",
    "distill.epochs": "'distill.epochs' changes no option; write its path and a value",
    "=1": "'=1' changes no option",
    "distill.epochs=": "'distill.epochs=' changes no option",
    "distill.epochs=0": "with distill.epochs = 0 is invalid: distill.epochs: Input should be greater than 0",
    "distill.epochs=x": "with distill.epochs = 'x' is invalid: distill.epochs: Input should be a",
    "distill.patience=3": "check and patience need held_back",
    "distill.epochs=3": "distill.epochs=3 is what the recipe w4a8-distill says already",
    "name=other": "name=other is what the recipe w4a8-distill says already",
    "distill=" + "[" * 10_000: "is invalid: distill: ",
}


@pytest.mark.parametrize("text", BAD)
def test_a_wrong_change_is_one_clear_error(text: str) -> None:
    with pytest.raises(RecipeError) as error:
        variations(WHOLE, [text])
    assert BAD[text] in str(error.value)
    assert "\n" not in str(error.value)


def test_a_change_twice_and_one_of_a_step_that_is_not_there() -> None:
    with pytest.raises(RecipeError, match="seed=4 is given twice"):
        variations(WHOLE, ["seed=4", "seed=4"])
    with pytest.raises(
        RecipeError, match=r"distill\.epochs changes nothing .* none of its steps \(bias_corr"
    ):
        variations(load_recipe("w4a8"), ["distill.epochs=1"])
