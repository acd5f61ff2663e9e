"""`subbyte recipes` and `subbyte models`: what there is to choose from."""

from __future__ import annotations

from rich.table import Table

from subbyte.cli.console import show, show_json
from subbyte.cli.options import Json


def recipes(json: Json = False) -> None:
    """The recipes that come with the package."""
    from subbyte.recipes import list_recipes, load_recipe

    found = [load_recipe(name) for name in list_recipes()]
    if json:
        show_json([recipe.model_dump(mode="json") for recipe in found])
        return
    table = Table("recipe", "what it does", box=None)
    for recipe in found:
        table.add_row(recipe.name, recipe.description)
    show(table)


def models(json: Json = False) -> None:
    """The networks that come with the package."""
    from subbyte.models import list_models, preprocessing

    sizes = {name: preprocessing(name) for name in list_models()}
    if json:
        show_json([{"name": name, "preprocessing": p.to_json()} for name, p in sizes.items()])
        return
    table = Table("model", "input", box=None)
    for name, p in sizes.items():
        table.add_row(name, f"{p.height} x {p.width}")
    show(table)
