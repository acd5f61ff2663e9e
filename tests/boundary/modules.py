"""The package's modules and what each imports: at its top, inside functions, for type checkers."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.boundary.tree import ROOT

#: Names that are imported beside these: the engine, and the table of tomllib's two names.
NOT_THIRD = {"subbyte", "__future__", "tomllib"} | set(sys.stdlib_module_names)


@dataclass(frozen=True)
class Module:
    """internal: the package's modules that it imports or names in a string, by dotted name; third_parties:
    other packages; at_once: those of them that importing the module imports."""

    internal: frozenset[str]
    third_parties: frozenset[str]
    at_once: frozenset[str]


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


#: What imports the package that is its first argument.
OPTIONAL = ("peer_module", "extra_module")
FILES = {dotted(path): path for path in sorted((ROOT / "subbyte").rglob("*.py"))}


def _named(node: ast.AST) -> list[str]:
    """What one node of a syntax tree imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: relative imports hide the room"
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in FILES or name == "subbyte._native" else str(node.module) for name in names]
    if isinstance(node, ast.Constant) and node.value in FILES and "." in node.value:
        return [node.value]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in OPTIONAL:
        return [str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant)]
    return []


def _at_once(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported."""
    yield node
    for child in ast.iter_child_nodes(node):
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not typing_only and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from _at_once(child)


def _third(nodes: Iterator[ast.AST]) -> frozenset[str]:
    return frozenset(name.split(".")[0] for node in nodes for name in _named(node)) - NOT_THIRD


def _read(name: str, path: Path) -> Module:
    tree = ast.parse(path.read_text("utf-8"))
    internal = {
        found
        for node in ast.walk(tree)
        for found in _named(node)
        if found.split(".")[0] == "subbyte"
        and not (isinstance(node, ast.Constant) and f"{name}.".startswith(f"{found}."))  # where its data lies
    }
    return Module(frozenset(internal), _third(ast.walk(tree)), _third(_at_once(tree)))


MODULES = {name: _read(name, path) for name, path in FILES.items()}
