"""Public names say what they are; what raises an error of this package says so."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from subbyte import errors
from tests.boundary.modules import FILES

Defined = ast.FunctionDef | ast.ClassDef
ERRORS = {name for name, value in vars(errors).items() if isinstance(value, type)}
#: Methods that the class above says enough about: torch's and typer's own.
INHERITED = {"forward", "backward", "resolve_command", "parse_args"}
#: Of one signature each, listed beside the operators that they stand for in `operators.py`.
HANDLERS = {
    *(
        f"subbyte.importers.rules.{name}"
        for name in ("convolutions", "elementwise", "matrices", "moves", "norms", "pools")
    ),
    *("subbyte.importers.tflite.layers", "subbyte.importers.tflite.elementwise"),
    "subbyte.importers.tflite.moves",
}
#: Their docstrings are what --help prints.
COMMANDS = {name for name in FILES if name.startswith("subbyte.cli.")}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items() if "._" not in name}


def public(tree: ast.Module) -> Iterator[tuple[str, Defined]]:
    """Functions, classes and their methods, with their names as a user writes them."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node.name, node
            for method in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    yield f"{node.name}.{method.name}", method


#: Classes of the package by name: a method may leave what it does to the docstring of the class above.
CLASSES = {
    node.name: node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
}


def explained(name: str, node: Defined) -> bool:
    """Whether it, or the method that it overrides, has a docstring, or is an item of its class's."""
    return ast.get_docstring(node) is not None or described(name) != ""


def described(name: str) -> str:
    """What the docstrings of a method's class and of the classes above say of it."""
    owner, _, method = name.rpartition(".")
    own = ast.get_docstring(CLASSES[owner]) or "" if owner in CLASSES else ""
    bases: list[ast.expr] = getattr(CLASSES.get(owner), "bases", [])
    above = [base.value if isinstance(base, ast.Subscript) else base for base in bases]
    names = [base.id for base in above if isinstance(base, ast.Name) and base.id in CLASSES]
    above_says = [
        ast.get_docstring(found) or described(f"{each}.{method}")
        for each in names
        for found in CLASSES[each].body
        if isinstance(found, ast.FunctionDef) and found.name == method
    ]
    return " ".join([own if f"{method}:" in own else "", *above_says]).strip()


@pytest.mark.parametrize("module", TREES)
def test_every_public_name_has_a_docstring(module: str) -> None:
    tree = TREES[module]
    assert ast.get_docstring(tree), "the module"
    missing = {name for name, node in public(tree) if not explained(name, node)}
    assert module in HANDLERS or {name for name in missing if name.split(".")[-1] not in INHERITED} == set()


def raised(function: ast.FunctionDef) -> set[str]:
    """The package's errors that a function raises itself."""
    found = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            found.add(ast.unparse(node.exc.func))
    return found & ERRORS


@pytest.mark.parametrize("module", TREES)
def test_what_raises_an_error_says_so(module: str) -> None:
    for name, node in public(TREES[module]):
        if isinstance(node, ast.FunctionDef) and module not in HANDLERS | COMMANDS:
            text = ast.get_docstring(node) or described(name)
            silent = {error for error in raised(node) if error not in text}
            assert not silent, f"{name} does not say that it raises {silent}"
