"""The API reference builds without a warning and has every public name."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.boundary.modules import FILES
from tests.boundary.tree import ROOT

PUBLIC = {name: path for name, path in FILES.items() if "._" not in name}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    command = [sys.executable, "-m", "docs.reference", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    return folder


def names(path: Path) -> set[str]:
    """The names in `__all__`, else the functions and classes without an underscore."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    defined = [node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    return {name for name in defined if not name.startswith("_")}


def test_every_public_name_has_its_place(reference: Path) -> None:
    for module, path in PUBLIC.items():
        page = reference.joinpath(*module.split(".")).with_suffix(".html").read_text("utf-8")
        missing = {name for name in names(path) if f'id="{name}"' not in page}
        assert not missing, module


def test_nothing_of_this_machine_is_in_it(reference: Path) -> None:
    for page in reference.rglob("*.*"):
        assert str(ROOT) not in page.read_text("utf-8"), page
