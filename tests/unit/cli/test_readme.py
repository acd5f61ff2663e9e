"""What the front page shows exists: commands, options, modules and names."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path

from subbyte.cli.app import COMMANDS, command

README = (Path(__file__).parents[3] / "README.md").read_text("utf-8")


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
    root = Path(__file__).parents[3]
    for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/log.md"):
        page = root / name
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{name}: {target}"
