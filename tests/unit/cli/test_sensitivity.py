"""`subbyte sensitivity`, and the budgets of `subbyte compress`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import subbyte
from subbyte.recipes import load_recipe

Invoke = Callable[..., Any]
Fails = Callable[..., None]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def network(source: Path, pictures: Path) -> tuple[object, ...]:
    return f"{source}:build", "--input-size", 16, "--calibration", pictures


@pytest.fixture
def table(invoke: Invoke, network: tuple[object, ...], tmp_path: Path) -> Path:
    result = invoke("sensitivity", *network, "--output", tmp_path / "s.json")
    assert result.exit_code == 0, result.output
    return tmp_path / "s.json"


def test_the_table_its_page_and_what_is_printed(
    invoke: Invoke, network: tuple[object, ...], table: Path
) -> None:
    rows = json.loads(table.read_text())["rows"]
    assert {(row["nodes"][0], row["bits"]) for row in rows if row["kind"] == "weights"} == {
        (name, bits) for name in ("0", "2", "6") for bits in (8, 4, 3, 2)
    }
    page = table.with_suffix(".html").read_text()
    assert "<h2>Sensitivity of weights" in page
    assert "<h2>Sensitivity of activations" in page
    assert page.count('<svg viewBox="') == 2
    assert not re.search(r"<(script|link)[^>]+(src|href)=", page)
    printed = invoke("sensitivity", *network, "--output", table).stdout
    for word in ("stem", "depthwise", "classifier", "KL, 4 bits", "dB, 2 bits", "agreement"):
        assert word in printed
    as_json = invoke("sensitivity", *network, "--output", table, "--json").stdout
    assert json.loads(as_json)["rows"] == rows


def test_only_the_widths_that_are_asked_for(
    invoke: Invoke, network: tuple[object, ...], tmp_path: Path
) -> None:
    options = ("--weight-bits", "4", "--activation-bits", "", "--html", tmp_path / "page.html")
    result = invoke("sensitivity", *network, "--output", tmp_path / "s.json", *options)
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "s.json").read_text())["rows"]
    assert {(row["kind"], row["bits"]) for row in rows} == {("weights", 4)}
    assert "of activations" not in (tmp_path / "page.html").read_text()


def test_what_is_wrong_with_an_analysis(
    fails: Fails, network: tuple[object, ...], table: Path, source: Path, pictures: Path, tmp_path: Path
) -> None:
    fails(
        "weights can have 2, 3, 4, 8 bits", "sensitivity", *network, "--output", table, "--weight-bits", "5"
    )
    fails("is not a folder", "sensitivity", *network, "--output", tmp_path / "no" / "s.json")
    fails("another network", "sensitivity", *network, "--output", table, "--pictures", 3)
    two = (f"{source}:two_outputs", "--input-size", 16, "--calibration", pictures)
    fails("class scores", "sensitivity", *two, "--output", tmp_path / "t.json")


def compressed(invoke: Invoke, network: tuple[object, ...], output: Path, *options: object) -> Any:
    return invoke("compress", *network, "--recipe", "w8a8", "--output", output, *options)


def test_a_size_is_kept_and_the_recipe_can_be_used_again(
    invoke: Invoke, network: tuple[object, ...], tmp_path: Path, cache: Path
) -> None:
    whole = tmp_path / "whole.subbyte"
    assert compressed(invoke, network, whole, "--drop", 100).exit_code == 0
    kept = sorted(path.name.partition("-")[0] for path in (cache / "subbyte").iterdir())
    assert kept == ["latency", "sensitivity"]
    small, recipe = tmp_path / "small.subbyte", tmp_path / "mixed.toml"
    size = whole.stat().st_size + 200  # room for one rule of the recipe
    result = compressed(invoke, network, small, "--size", size, "--write-recipe", recipe)
    assert result.exit_code == 0, result.output
    assert small.stat().st_size <= size
    artifact = subbyte.load(small)
    assert artifact.recipe["name"] == load_recipe(recipe).name == "w8a8-mixed"
    assert load_recipe(recipe).model_dump(mode="json") == artifact.recipe
    again = tmp_path / "again.subbyte"
    assert invoke("compress", *network, "--recipe", recipe, "--output", again).exit_code == 0
    assert again.read_bytes() == small.read_bytes()
    for word in ("Layers by bits", "layers that keep 8 bits", "predicted", "finished: KL"):
        assert word in result.stdout


def test_a_latency_and_a_given_table(
    invoke: Invoke, network: tuple[object, ...], table: Path, tmp_path: Path, cache: Path
) -> None:
    options = ("--latency", "10s", "--sensitivity", table)
    result = compressed(invoke, network, tmp_path / "a.subbyte", *options)
    assert result.exit_code == 0, result.output
    assert [path.name.partition("-")[0] for path in (cache / "subbyte").iterdir()] == ["latency"]


def test_the_smallest_file_for_a_drop(invoke: Invoke, network: tuple[object, ...], tmp_path: Path) -> None:
    loose, strict = tmp_path / "loose.subbyte", tmp_path / "strict.subbyte"
    assert compressed(invoke, network, loose, "--drop", 100).exit_code == 0
    assert compressed(invoke, network, strict, "--drop", 0).exit_code == 0
    assert loose.stat().st_size <= strict.stat().st_size


def test_budgets_that_cannot_be_kept(fails: Fails, network: tuple[object, ...], tmp_path: Path) -> None:
    output = tmp_path / "a.subbyte"

    def refused(message: str, *options: object) -> None:
        fails(message, "compress", *network, "--recipe", "w8a8", "--output", output, *options)
        assert not output.exists()

    refused("no widths give a file of 100 bytes (nearest: ", "--size", 100)
    refused("no widths give 1e-06 ms (nearest: ", "--latency", "0.000001")
    refused("activations may take 1 bytes, but this engine needs ", "--memory", 1)
    refused("--size must be a number above 0 with a unit", "--size", "small")
    refused("activations can have 2, 3, 4, 8 bits", "--size", "1MB", "--activation-bits", "7")


def test_a_budget_needs_pictures(fails: Fails, source: Path, tmp_path: Path) -> None:
    own = (f"{source}:build", "--input-size", 16, "--recipe", "w8a8")
    fails("a budget needs --calibration", "compress", *own, "--output", tmp_path / "a", "--drop", 1)
