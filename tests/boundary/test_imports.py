"""What runs an artifact never imports torch: each module is imported where torch cannot be."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.boundary.tree import ROOT

WITHOUT_TORCH = ("quant", "ir", "reference", "passes", "artifact", "runtime", "device")
LAZY = ("evaluate", "cli")  # may import torch, but only where it is used

BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "timm"}:
            raise ImportError(f"{name} is blocked here")

sys.meta_path.insert(0, Blocker())
"""


def blocked(code: str) -> subprocess.CompletedProcess[str]:
    """Runs Python code where torch cannot be imported."""
    return subprocess.run(
        [sys.executable, "-c", BLOCKER + code], cwd=ROOT, capture_output=True, text=True, check=False
    )


def modules(package: str) -> list[str]:
    files = (ROOT / "subbyte" / package).rglob("*.py")
    dotted = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files]
    return sorted(name.removesuffix(".__init__") for name in dotted if not name.endswith("__main__"))


def test_the_blocker_blocks() -> None:
    assert "torch is blocked here" in blocked("import torch").stderr


@pytest.mark.parametrize("package", [*WITHOUT_TORCH, *LAZY])
def test_imports_without_torch(package: str) -> None:
    names = modules(package)
    if package == "device" and not names:
        pytest.skip("there is no device package yet")
    assert f"subbyte.{package}" in names
    result = blocked("".join(f"import {name}\n" for name in ("subbyte", "subbyte.preprocess", *names)))
    assert result.returncode == 0, result.stderr


def test_the_commands_load_without_scipy() -> None:
    """Its OpenBLAS asks for memory for ever where little is left, before any code of ours could notice."""
    code = "import sys, subbyte.cli\nassert not {name for name in sys.modules if name.startswith('scipy')}"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_an_artifact_runs_without_torch(tmp_path: Path) -> None:
    code = f"""
import numpy as np
from subbyte.artifact import load, save
from subbyte.execute.reference import run
from subbyte.execute.native import Session
from tests.fuzz.graphs import seeds

save({str(tmp_path / "a.subbyte")!r}, seeds()["mixed"])
artifact = load({str(tmp_path / "a.subbyte")!r})
x = np.ones((1, 6, 6, 3), np.float32)
assert Session(artifact).run(x).shape == run(artifact.graph, x)[artifact.graph.outputs[0]].shape
assert "torch" not in sys.modules
"""
    result = blocked(code)
    assert result.returncode == 0, result.stderr


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports anywhere, even inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", WITHOUT_TORCH)
def test_torch_is_not_even_mentioned(package: str) -> None:
    for path in (ROOT / "subbyte" / package).rglob("*.py"):
        assert not imported(path) & {"torch", "torchvision", "timm"}, path


#: What each package may import of the others; the image in ARCHITECTURE.md.
BELOW = {
    "quant": set(),
    "ir": {"quant"},
    "reference": {"quant", "ir"},
    "passes": {"quant", "ir"},
    "artifact": {"quant", "ir", "preprocess"},
    "runtime": {"quant", "ir", "artifact", "_native"},
    "device": {"quant", "ir", "passes", "artifact", "runtime"},
}


@pytest.mark.parametrize("package", sorted(BELOW))
def test_packages_lean_downwards_only(package: str) -> None:
    for path in (ROOT / "subbyte" / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            if isinstance(node, ast.ImportFrom) and node.module == "subbyte":
                names = [f"subbyte.{alias.name}" for alias in node.names]
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            used = {name.split(".")[1] for name in names if name.startswith("subbyte.")}
            assert used <= BELOW[package] | {package, "errors", "whole_file"}, path
