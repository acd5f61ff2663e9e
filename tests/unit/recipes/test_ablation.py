"""Recipes that show what each step is worth."""

from __future__ import annotations

from subbyte.recipes import Recipe
from subbyte.recipes.ablation import ablations


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
