"""What the front page shows exists: commands, options, modules and names."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from subbyte.cli.app import COMMANDS, command

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def shell_commands() -> list[list[str]]:
    text = "\n".join(blocks("sh")).replace("\\\n", " ")
    lines = (shlex.split(line.partition(">")[0], comments=True) for line in text.splitlines())
    return [words[1:] for words in lines if words[:1] == ["subbyte"]]


def test_commands_and_options_exist() -> None:
    shown = shell_commands()
    assert {words[0] for words in shown} == set(COMMANDS)
    for name, *words in shown:
        options = {option for parameter in command(name).params for option in parameter.opts}
        unknown = {word for word in words if word.startswith("--")} - options
        assert not unknown, f"subbyte {name}"


def test_python_example_imports_what_exists() -> None:
    (example,) = blocks("python")
    tree = ast.parse(example)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
    import subbyte

    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "subbyte"
    }
    assert used
    assert used <= set(subbyte.__all__)


def test_linked_files_exist() -> None:
    for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "docs/log.md"):
        page = ROOT / name
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{name}: {target}"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that has what the examples read, and takes what they write."""
    (tmp_path / "demo").symlink_to(ROOT / "demo")
    return tmp_path


def run(command: list[str], folder: Path) -> None:
    """One thread, with the commands of this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, f"{command[-1]}\n{result.stderr}"


@pytest.mark.slow
def test_the_shell_block_runs_as_it_stands(checkout: Path) -> None:
    """Line by line, from top to bottom; what takes minutes is in a block of its own."""
    _, block, slow, _ = blocks("sh")
    assert "ablate" in slow
    lines = [line for line in block.replace("\\\n", " ").splitlines() if line]
    assert len(lines) > 10
    for line in lines:
        run(["bash", "-e", "-c", line], checkout)
    assert {"lite0-w4a8.subbyte", "mine.subbyte", "report.html"} <= {path.name for path in checkout.iterdir()}


@pytest.mark.slow
def test_the_python_block_runs_as_it_stands(checkout: Path) -> None:
    (example,) = blocks("python")
    run([sys.executable, "-c", example], checkout)
    assert (checkout / "lite0-w4a8.subbyte").is_file()
