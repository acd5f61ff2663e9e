"""A recipe with another value of one option, named by its path, like `distill.epochs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from subbyte.errors import RecipeError
from subbyte.recipes.load import describe
from subbyte.recipes.recipe import Recipe
from subbyte.recipes.steps import STEPS
from subbyte.system.toml import parse_toml


def changed(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with these values at their dotted paths: names of tables and options, and numbers, from 0,
    of what is listed.

    Raises RecipeError: there is no such option, its step is none of the recipe's, or the value does not fit.
    """
    data = recipe.model_dump(mode="json")
    for path, value in values.items():
        value_at(recipe, path)
        _check_step(recipe, path)
        *above, last = path.split(".")
        where: Any = data
        for key in above:
            where = where[int(key)] if isinstance(where, list) else where.setdefault(key, {})
        where[int(last) if isinstance(where, list) else last] = value
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        said = ", ".join(f"{path} = {value!r}" for path, value in values.items())
        raise RecipeError(f"the recipe {recipe.name} with {said} is invalid: {describe(error)}") from None


def value_at(recipe: Recipe, path: str) -> Any:
    """What the recipe says there, as plain data. RecipeError: there is no such option."""
    where: Any = _everything(recipe)
    keys = path.split(".")
    for depth, key in enumerate(keys):
        try:
            where = where[_index(key) if isinstance(where, list) else key]
        except (KeyError, IndexError, TypeError):
            raise RecipeError(f"there is no option {path!r}: {_known(where, keys[:depth])}") from None
    return where


def parse_change(text: str) -> tuple[str, Any]:
    """Path and value of `PATH=VALUE`, whose value is TOML's, or else a text. RecipeError if it is none."""
    path, found, value = text.partition("=")
    path, value = path.strip(), value.strip()
    if not found or not path or not value:
        raise RecipeError(f"{text!r} changes no option; write its path and a value, like distill.epochs=2")
    try:
        return path, parse_toml(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        return path, value


def _check_step(recipe: Recipe, path: str) -> None:
    step = path.split(".")[0]
    if step in STEPS and step not in recipe.steps:
        raise RecipeError(
            f"{path} changes nothing in the recipe {recipe.name}: {step} is none of its steps "
            f"({', '.join(recipe.steps) or 'it has none'})"
        )


def _known(where: Any, above: list[str]) -> str:
    place = f" in {'.'.join(above)}" if above else ""
    if isinstance(where, Mapping):
        return f"the options{place} are {', '.join(where)}"
    if isinstance(where, list):
        return f"of {'.'.join(above)} the recipe has {len(where)}, counted from 0"
    return f"{'.'.join(above)} is one value"


def _index(key: str) -> int:
    """Of what is listed. KeyError if it is no number."""
    if not key.isdecimal():
        raise KeyError(key)
    return int(key)


def _everything(table: BaseModel) -> dict[str, Any]:
    """Every option as plain data, also those that a file leaves out."""
    plain = table.model_dump(mode="json")
    every = {name: getattr(table, name) for name in (*type(table).model_fields, *(table.model_extra or {}))}
    return {name: _plain(value, plain.get(name, value)) for name, value in every.items()}


def _plain(value: Any, written: Any) -> Any:
    if isinstance(value, BaseModel):
        return _everything(value)
    if isinstance(value, tuple) and isinstance(written, list):
        return [_plain(item, other) for item, other in zip(value, written, strict=True)]
    return written
