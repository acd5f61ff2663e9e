"""Which recipes show what each step of a recipe is worth."""

from __future__ import annotations

from subbyte.recipes import Recipe


def ablations(recipe: Recipe) -> dict[str, Recipe]:
    """The recipe without any step, with each alone, with all but each, and as it is, by name; every
    sequence of steps once, shorter ones first."""
    steps = recipe.steps
    named: dict[tuple[str, ...], str] = {steps: recipe.name, (): f"{recipe.name} without steps"}
    for step in steps:
        named.setdefault((step,), f"{recipe.name} only {step}")
    for step in steps:
        named.setdefault(tuple(s for s in steps if s != step), f"{recipe.name} without {step}")
    if not steps:
        named = {(): recipe.name}
    return {
        name: recipe.model_copy(update={"name": name, "steps": chosen})
        for chosen, name in sorted(named.items(), key=lambda item: len(item[0]))
    }
