"""A command line that is wrong is one line `error: ...` on stderr and status 2, for every command."""

from __future__ import annotations

import importlib
import inspect
import re
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from subbyte.cli.app import COMMANDS, command

Invoke = Callable[..., Any]
CLI = Path(inspect.getfile(importlib.import_module("subbyte.cli"))).parent


@pytest.fixture
def misused(invoke: Invoke) -> Callable[..., None]:
    def run(message: str, *arguments: object) -> None:
        result = invoke(*arguments)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1
        assert result.stderr.startswith("error: ")
        assert message in result.stderr
        assert re.search(r"; see subbyte( [a-z]+)? --help$", result.stderr.rstrip("\n"))

    return run


def function_of(name: str) -> Callable[..., None]:
    return getattr(importlib.import_module(f"subbyte.cli.{COMMANDS[name][0]}"), name)


def required(name: str) -> list[str]:
    """Words that every required argument and option of the command accepts."""
    words = []
    for parameter in command(name).params:
        if parameter.required:
            words += [parameter.opts[0], "x"] if parameter.opts[0].startswith("-") else ["x"]
    return words


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command(name: str, misused: Callable[..., None], invoke: Invoke) -> None:
    words, hints = required(name), typing.get_type_hints(function_of(name))
    misused("No such option: --no-such-option", name, *words, "--no-such-option")
    if words:
        misused("Missing ", name)
    for parameter in command(name).params:
        option = parameter.opts[-1]
        if not option.startswith("--") or option == "--help" or parameter.is_flag:
            continue
        misused(f"{option}", name, *words, option)  # without its value
        if hints[parameter.name] in (int, int | None, float, float | None):
            misused(f"Invalid value for '{option}'", name, *words, option, "many")
            misused(f"Invalid value for '{option}'", name, *words, option, "-1")
    result = invoke(name, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: subbyte {name}")


def test_what_a_command_asks_for_itself(misused: Callable[..., None], int8: Path) -> None:
    misused("give --data or --cue-conflict; see subbyte evaluate --help", "evaluate", int8)


def test_the_list_of_commands(misused: Callable[..., None], invoke: Invoke) -> None:
    misused("No such command 'nothing'", "nothing")
    misused("Did you mean 'inspect'?", "inspekt")
    misused("No such option: --nothing", "--nothing")
    misused("No such option: --nothing", "--nothing", "run")
    for arguments in ((), ("--help",), ("-h",)):
        result = invoke(*arguments)
        assert result.exit_code == 0
        assert result.stderr == ""
        for name in COMMANDS:
            assert re.search(rf"^  {name} +[A-Z]", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_the_command_says(name: str) -> None:
    said = inspect.getdoc(function_of(name)) or ""
    assert " ".join(said.partition("\n\n")[0].split()) == COMMANDS[name][1]


def test_one_place_prints() -> None:
    """All output passes console.py, where it is made safe; `print` in __init__.py prints constants."""
    for path in CLI.glob("*.py"):
        if path.name not in ("console.py", "__init__.py"):
            assert not re.search(r"\bprint\(|\becho\(|\bConsole\(|std(out|err)\.write", path.read_text()), (
                path
            )
