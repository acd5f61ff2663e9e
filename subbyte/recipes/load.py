"""Recipes from TOML files."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from subbyte.errors import InputError, RecipeError
from subbyte.recipes.recipe import Recipe
from subbyte.recipes.steps import endings
from subbyte.system.text_file import read_text
from subbyte.system.toml import parse_toml

#: Of a file; the widths of a thousand layers take a tenth.
MAX_BYTES = 1 << 18
MAX_DEPTH = 16
#: Strings of several lines, which may end in up to five quotes; strings; comments. An end may be missing.
_NO_STRUCTURE = re.compile(
    r""""{3}(?:\\.|[^\\])*?(?:"{3,5}|\Z)|'{3}.*?(?:'{3,5}|\Z)|"(?:\\.|[^"\\\n])*"?|'[^'\n]*'?|#[^\n]*""",
    re.DOTALL,
)
_BRACKET = re.compile(r"[][{}]")


def list_recipes() -> list[str]:
    """The names that `load_recipe` knows, sorted.

    A name is `w<bits of weights>a<bits of activations>` or compact, quick, or that and a step to train with
    at the end, like `-reconstruct` (see steps.py); or fp32.
    """
    folder = resources.files("subbyte.recipes")
    names = [f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")]
    return sorted(names + [f"{name}-{ending}" for name in names if name != "fp32" for ending in endings()])


def load_recipe(name_or_path: str | Path) -> Recipe:
    """The recipe of that name, or the one in a TOML file (anything with a `/` or ending in .toml).

    Raises RecipeError: unknown name, unreadable file, or a file that is not a valid recipe.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text or "\\" in text:
        return _parse(_read(Path(name_or_path)), text)
    if text not in list_recipes():
        raise RecipeError(
            f"there is no recipe {text!r}; known: {', '.join(list_recipes())}, or the path of a .toml file"
        )
    widths, _, ending = text.partition("-")
    recipe = _parse((resources.files("subbyte.recipes") / f"{widths}.toml").read_text("utf-8"), text)
    if not ending:
        return recipe
    steps, words = endings()[ending]
    changes = {
        "name": text,
        "description": f"{recipe.description} Then {words}.",
        "steps": (*recipe.steps, *steps),
    }
    return Recipe.model_validate({**recipe.model_dump(), **changes})


def _read(path: Path) -> str:
    try:
        text = read_text("the recipe", path, MAX_BYTES)
    except InputError as error:
        raise RecipeError(str(error)) from None
    if (line := _too_deep(text)) is not None:
        raise RecipeError(f"the recipe {path} is nested too deeply in line {line}")
    return text


def _too_deep(text: str) -> int | None:
    """The first line with more than MAX_DEPTH open brackets or dots, None if there is none.

    A parser descends, or copies, once per bracket and dot. What valid recipes nest is far below.
    """
    depth = 0
    without = _NO_STRUCTURE.sub(lambda found: "\n" * found[0].count("\n"), text)
    for number, line in enumerate(without.split("\n"), start=1):
        if line.count(".") > MAX_DEPTH:
            return number
        for bracket in _BRACKET.findall(line):
            depth += 1 if bracket in "[{" else -1
            if depth > MAX_DEPTH:
                return number
    return None


def _parse(text: str, origin: str) -> Recipe:
    try:
        return Recipe.model_validate(parse_toml(text))
    except ValidationError as error:
        raise RecipeError(f"the recipe {origin} is invalid: {describe(error)}") from None
    except ValueError as error:  # TOMLDecodeError, and what Python says of numbers with too many digits
        raise RecipeError(f"the recipe {origin} is not valid TOML: {error}") from None


def describe(error: ValidationError) -> str:
    """The first problem of a validation, in one line: where and what."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    what = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        what = "there is no such option"
    return f"{where}: {what}" if where else what
