"""`subbyte ablate` on a tiny network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import subbyte

Invoke = Callable[..., Any]
Fails = Callable[..., None]
RECIPE = """
name = "tiny"
steps = ["bias_correction", "reconstruct"]
reconstruct = {epochs = 1.0}
[weights]
bits = 4
"""


@pytest.fixture
def arguments(source: Path, images: Path, tmp_path: Path) -> list[object]:
    (tmp_path / "tiny.toml").write_text(RECIPE)
    return [
        *("ablate", f"{source}:build", "--input-size", 16, "--recipe", tmp_path / "tiny.toml"),
        *("--calibration", images, "--data", images, "--output", tmp_path / "out"),
    ]


def test_every_combination_is_compared(invoke: Invoke, arguments: list[object], tmp_path: Path) -> None:
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    names = ["fp32", "tiny without steps", "tiny only bias_correction", "tiny only reconstruct", "tiny"]
    assert [row["name"] for row in rows] == names
    out = tmp_path / "out"
    assert json.loads((out / "ablation.json").read_text()) == rows
    assert {path.stem for path in out.glob("*.subbyte")} == {name.replace(" ", "-") for name in names}
    assert subbyte.load(out / "tiny-only-reconstruct.subbyte").recipe["steps"] == ["reconstruct"]
    assert all(row["difference"] is not None for row in rows[1:])
    assert "<h2>Memory, calibration, robustness" in (out / "ablation.html").read_text()
    assert (out / "ablation.md").read_text().count("\n|") == 2 + len(names)


def test_a_second_run_makes_only_what_is_missing(
    invoke: Invoke, fails: Fails, arguments: list[object], tmp_path: Path
) -> None:
    assert invoke(*arguments).exit_code == 0
    out = tmp_path / "out"
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("*.subbyte")}
    (out / "tiny.subbyte").unlink()
    assert invoke(*arguments).exit_code == 0
    again = {path.name: path.stat().st_mtime_ns for path in out.glob("*.subbyte")}
    assert {name for name in times if times[name] != again[name]} == {"tiny.subbyte"}
    fails("was made with other arguments", *arguments, "--images", 4)
    fails("was made with other arguments", *arguments, "--seed", 5)
    fails("was made with other arguments", *arguments, "--mean", "0,0,0")


def test_a_recipe_cannot_name_files_elsewhere(
    invoke: Invoke, arguments: list[object], tmp_path: Path
) -> None:
    (tmp_path / "tiny.toml").write_text(RECIPE.replace('"tiny"', '"../tiny"'))
    assert invoke(*arguments).exit_code == 0
    assert not (tmp_path / "tiny.subbyte").exists()
    assert (tmp_path / "out" / "..-tiny.subbyte").exists()
