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
    assert (out / "ablation.md").read_text().count("\n|") == 2 + len(names) + 2 + len(names[1:])


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


def test_options_are_varied_with_several_seeds(
    invoke: Invoke, fails: Fails, arguments: list[object], tmp_path: Path
) -> None:
    more = ("--vary", "reconstruct.epochs=2", "--vary", "weights.bits=2", "--seeds", 2, "--seed", 3)
    result = invoke(*arguments, *more, "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    names = ["tiny with reconstruct.epochs=2", "tiny with weights.bits=2", "tiny"]
    assert [row["name"] for row in printed["variants"]] == names
    rows = printed["artifacts"]
    seeded = [f"{name} seed {seed}" for name in names for seed in (3, 4)]
    assert [row["name"] for row in rows] == ["fp32", *seeded]
    out = tmp_path / "out"
    assert {path.suffix for path in out.iterdir()} == {".subbyte", ".json", ".html", ".md"}
    kept = subbyte.load(out / "tiny-with-reconstruct.epochs-2-seed-4.subbyte")
    assert (kept.recipe["reconstruct"]["epochs"], kept.provenance["seed"]) == (2.0, 4)
    assert json.loads((out / "variants.json").read_text()) == printed["variants"]
    for i, variant in enumerate(printed["variants"]):
        shares = [row["top1"] / 12 for row in rows[1 + 2 * i : 3 + 2 * i]]
        assert variant["score"]["mean"] == pytest.approx(sum(shares) / 2, abs=1e-12)
        assert variant["score"]["spread"] == pytest.approx(abs(shares[0] - shares[1]) / 2**0.5, abs=1e-12)
    gain = printed["variants"][1]["score_gain"]["difference"]
    scores = [variant["score"]["mean"] for variant in printed["variants"]]
    assert gain == pytest.approx(scores[1] - scores[2], abs=1e-12)
    assert printed["variants"][2]["score_gain"] is None
    text = (out / "ablation.md").read_text()
    assert "## Beside tiny" in text
    assert "Means of 2 seeds ± the standard deviation between them." in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "reconstruct.epoch=2",
            "there is no option 'reconstruct.epoch': the options in reconstruct are epochs,",
        ),
        (
            "distill.epochs=2",
            "distill.epochs changes nothing in the recipe tiny: distill is none of its steps",
        ),
        ("reconstruct.epochs=0", "reconstruct.epochs: Input should be greater than 0"),
        ("reconstruct.epochs", "changes no option"),
    ],
)
def test_a_wrong_change_is_told_before_any_work(
    change: str, message: str, fails: Fails, arguments: list[object], tmp_path: Path
) -> None:
    fails(message, *arguments, "--vary", change)
    assert not (tmp_path / "out").exists()
