"""`subbyte sensitivity`, and the budgets of `subbyte compress`."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import subbyte
from subbyte.analysis.degradation import Degradation, Meter
from subbyte.artifact.digest import graph_digest
from subbyte.compress import budgeted
from subbyte.compress.quick_time import QuickTime
from subbyte.data import load_image
from subbyte.ir import Graph
from subbyte.ir.shares import shares
from subbyte.metrics import wilson_interval
from subbyte.recipes import load_recipe

POINTWISE = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 64, 1), nn.ReLU(),
        nn.Conv2d(64, 64, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 6))
"""
Invoke = Callable[..., Any]
Fails = Callable[..., None]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def network(source: Path, images: Path) -> tuple[object, ...]:
    return f"{source}:build", "--input-size", 16, "--calibration", images


@pytest.fixture
def table(invoke: Invoke, network: tuple[object, ...], tmp_path: Path) -> Path:
    result = invoke("sensitivity", *network, "--output", tmp_path / "s.json")
    assert result.exit_code == 0, result.output
    return tmp_path / "s.json"


def test_the_table_its_page_and_what_is_printed(
    invoke: Invoke, network: tuple[object, ...], table: Path
) -> None:
    rows = json.loads(table.read_text())["rows"]
    assert {(row["nodes"][0], row["format"]) for row in rows if row["kind"] == "weights"} == {
        (name, f"int{bits}") for name in ("0", "2", "6") for bits in (8, 4, 3, 2)
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
    assert {(row["kind"], row["format"]) for row in rows} == {("weights", "int4")}
    assert "of activations" not in (tmp_path / "page.html").read_text()


def test_what_is_wrong_with_an_analysis(
    fails: Fails, network: tuple[object, ...], table: Path, source: Path, images: Path, tmp_path: Path
) -> None:
    fails(
        "weights can have 8, 4, 3, 2 bits", "sensitivity", *network, "--output", table, "--weight-bits", "5"
    )
    fails("is not a folder", "sensitivity", *network, "--output", tmp_path / "no" / "s.json")
    fails("another network", "sensitivity", *network, "--output", table, "--images", 3)
    two = (f"{source}:two_outputs", "--input-size", 16, "--calibration", images)
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
    assert widths(again) == widths(small)
    for word in ("Layers by bits", "layers that keep 8 bits", "ms an image", "on 2 images held back"):
        assert word in result.stdout
    assert "predicted" not in result.stdout


def widths(path: Path) -> dict[str, int]:
    nodes = subbyte.load(path).graph.nodes
    return {node.name: node.params["weight"].bits for node in nodes if "weight" in node.params}  # type: ignore[union-attr]


@pytest.mark.parametrize("option", ["--size", "--drop"])
def test_images_held_back_change_nothing_but_what_is_said_of_them(
    invoke: Invoke, source: Path, images: Path, tmp_path: Path, option: str
) -> None:
    """The fifth and the tenth of twelve: with others in their place the network is the same."""
    other = tmp_path / "other"
    shutil.copytree(images, other)
    for name in ("04.png", "09.png"):
        pixels = np.random.default_rng(99).integers(0, 256, (20, 24, 3), np.uint8) // 4
        Image.fromarray(pixels.astype(np.uint8)).save(other / name)
    found = []
    for folder in (images, other):
        path = tmp_path / f"{folder.name}.subbyte"
        own = (f"{source}:build", "--input-size", 16, "--calibration", folder)
        limit = {"--size": 3500, "--drop": 100}[option]
        # times measured here would differ, and with them the widths that are refused for saving none
        result = compressed(invoke, own, path, option, limit, "--target", "raspberry-pi-5")
        assert result.exit_code == 0, result.output
        artifact = subbyte.load(path)
        x = np.stack([load_image(folder / name, artifact.preprocessing) for name in ("04.png", "09.png")])
        exact = tmp_path / "exact.subbyte"
        invoke("compress", *own, "--recipe", "fp32", "--output", exact)
        agreeing = subbyte.Session(artifact).run(x).argmax(1) == subbyte.Session(exact).run(x).argmax(1)
        said = artifact.provenance["held_back"]
        assert (said["images"], said["agreeing"]) == (2, agreeing.sum())
        assert said["agreement_95"] == [round(end, 4) for end in wilson_interval(int(agreeing.sum()), 2)]
        assert artifact.provenance["calibration"] == f"10 images of {folder.name}"
        found.append(graph_digest(artifact.graph))
    assert found[0] == found[1]


def test_too_few_images_to_hold_any_back(invoke: Invoke, network: tuple[object, ...], tmp_path: Path) -> None:
    path = tmp_path / "a.subbyte"
    result = compressed(invoke, network, path, "--drop", 100, "--images", 9)
    assert result.exit_code == 0, result.output
    assert "on 9 images that it was made with" in result.stdout
    assert "Too few images to hold any back" in result.stdout
    assert subbyte.load(path).provenance["held_back"] == {"images": 0}


def test_the_drop_is_decided_on_images_held_back(
    invoke: Invoke, network: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(meter: Meter, graph: Graph) -> Degradation:
        return Degradation(kl=0.5, mse=0.0, agreement=0.5 if len(meter.images) == 2 else 1.0)

    monkeypatch.setattr(Meter, "of", of)
    # of 11 images 2 are held back, and of 9 none are left to search on
    result = compressed(invoke, network, tmp_path / "a.subbyte", "--drop", 10, "--images", 11)
    assert result.exit_code == 1
    assert "loses 50.00 points on 2 images held back (95 %: 9.45 to 90.55), more than 10" in result.stderr
    assert not (tmp_path / "a.subbyte").exists()


def test_the_table_of_another_network_is_not_used(
    fails: Fails, network: tuple[object, ...], table: Path, tmp_path: Path
) -> None:
    text = json.loads(table.read_text())
    table.write_text(json.dumps({**text, "network": "0" * 64}))
    rest = ("--recipe", "w8a8", "--output", tmp_path / "a.subbyte", "--drop", 100, "--sensitivity", table)
    fails("is the analysis of another network", "compress", *network, *rest)


def test_a_network_slower_than_its_layers_promise_is_refused(
    fails: Fails, network: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgeted, "quick_time", lambda session: QuickTime(2e4, 1.5e4, 7, busy=False))
    rest = ("--recipe", "w8a8", "--output", tmp_path / "a.subbyte", "--latency", "10s")
    fails("an image takes 1.5e+04 ms, the fastest of 7 runs, not the 10000 ms", "compress", *network, *rest)


def test_a_busy_machine_and_doubtful_times_are_told(
    invoke: Invoke, network: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgeted, "quick_time", lambda session: QuickTime(9e9, 8e9, 7, busy=True))
    result = compressed(invoke, network, tmp_path / "a.subbyte", "--drop", 100)
    assert "9e+09 ms an image on one thread (median of 7 runs; fastest 8e+09)" in result.stdout
    assert "This machine was busy" in result.stdout
    assert "Bit-widths were chosen by layers' times that add up to" in result.stdout


def test_a_latency_and_a_given_table(
    invoke: Invoke, network: tuple[object, ...], table: Path, tmp_path: Path, cache: Path
) -> None:
    options = ("--latency", "10s", "--sensitivity", table)
    result = compressed(invoke, network, tmp_path / "a.subbyte", *options)
    assert result.exit_code == 0, result.output
    assert [path.name.partition("-")[0] for path in (cache / "subbyte").iterdir()] == ["latency"]


def test_budgets_that_cannot_be_kept(fails: Fails, network: tuple[object, ...], tmp_path: Path) -> None:
    output = tmp_path / "a.subbyte"

    def refused(message: str, *options: object) -> None:
        fails(message, "compress", *network, "--recipe", "w8a8", "--output", output, *options)
        assert not output.exists()

    refused("no widths give a file of 100 bytes (nearest: ", "--size", 100)
    refused("no widths give 1e-06 ms (nearest: ", "--latency", "0.000001")
    refused("activations may take 1 bytes, but ", "--memory", 1)
    refused("--size must be a number above 0 with a unit", "--size", "small")
    refused("activations can have 8, 4, 3, 2 bits", "--size", "1MB", "--activation-bits", "7")


def test_a_budget_needs_images(fails: Fails, source: Path, tmp_path: Path) -> None:
    own = (f"{source}:build", "--input-size", 16, "--recipe", "w8a8")
    fails("a budget needs --calibration", "compress", *own, "--output", tmp_path / "a", "--drop", 1)


def test_mean_bits_of_activations(invoke: Invoke, network: tuple[object, ...], tmp_path: Path) -> None:
    path, recipe = tmp_path / "a.subbyte", tmp_path / "a.toml"
    result = compressed(invoke, network, path, "--mean-activation-bits", 4.5, "--write-recipe", recipe)
    assert result.exit_code == 0, result.output
    found = shares(subbyte.load(path).graph)
    assert found.activation_bits <= 4.5
    text = " ".join(result.stdout.split())
    assert str(found) in text
    assert "Layers by bits of their activations" in text
    assert "one a byte on this engine: they save no time and no memory" in text
    assert "activations of at most 4.5 bits on average" in load_recipe(recipe).description
    # the recipe makes them without a budget, and inspect says the same
    again = tmp_path / "again.subbyte"
    plain = invoke("compress", *network, "--recipe", recipe, "--output", again)
    assert str(found) in " ".join(plain.stdout.split())
    assert shares(subbyte.load(again).graph) == found
    assert json.loads(invoke("inspect", again, "--repeats", 0, "--json").stdout)["shares"] == found.to_json()
    assert str(found) in " ".join(invoke("inspect", again, "--repeats", 0).stdout.split())


def test_float_layers(invoke: Invoke, network: tuple[object, ...], tmp_path: Path) -> None:
    """Where every one of them wins: they are listed, stored as half, and the recipe makes them again."""
    table, path, recipe = tmp_path / "s.json", tmp_path / "a.subbyte", tmp_path / "a.toml"
    words = ("--weight-bits", "8,4,fp16", "--activation-bits", "")
    result = invoke("sensitivity", *network, *words, "--output", table)
    assert result.exit_code == 0, result.output
    assert "fp16" in result.stdout
    rows = json.loads(table.read_text())
    for row in rows["rows"]:
        if row["format"] == "fp16":
            row["degradation"]["kl"] = rows["base"]["kl"] - 1.0
    table.write_text(json.dumps(rows))
    chosen = ("--float-layers", "fp16", "--sensitivity", table, "--write-recipe", recipe)
    result = compressed(invoke, network, path, "--drop", 100, "--size", "1MB", *chosen)
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "layers that stay in floating point" in text
    assert "8 bits alone would add 1.0000 nats" in text
    assert "weights: fp16 100 %" in text
    weights = [n.params["weight"] for n in subbyte.load(path).graph.nodes if "weight" in n.params]
    assert {weight.dtype for weight in weights} == {np.dtype(np.float16)}  # type: ignore[union-attr]
    again = tmp_path / "again.subbyte"
    assert invoke("compress", *network, "--recipe", recipe, "--output", again).exit_code == 0
    both = subbyte.load(again), subbyte.load(path)  # grids differ: the budget held images back
    assert both[0].recipe == both[1].recipe
    for one, other in zip(both[0].graph.nodes, both[1].graph.nodes, strict=True):
        assert (one.name, one.op, one.params.keys()) == (other.name, other.op, other.params.keys())
        for role, param in one.params.items():
            assert np.array_equal(param, other.params[role])  # type: ignore[arg-type]


def test_patterns(invoke: Invoke, images: Path, tmp_path: Path) -> None:
    """Where a budget asks for one of them, layers have it, and the recipe makes it again."""
    (tmp_path / "pointwise.py").write_text(POINTWISE)
    network: tuple[object, ...] = (f"{tmp_path}/pointwise.py:build", "--input-size", 16)
    network += ("--calibration", images)
    table, path, recipe = tmp_path / "s.json", tmp_path / "a.subbyte", tmp_path / "a.toml"
    words = ("--weight-bits", "8,int8+2:4", "--activation-bits", "")
    assert invoke("sensitivity", *network, *words, "--output", table).exit_code == 0
    assert compressed(invoke, network, path).exit_code == 0
    size = path.stat().st_size - 500  # 4096 weights of 8 bits become 5 on average: 1536 bytes less
    asked = ("--patterns", "2:4", "--sensitivity", table, "--size", size, "--write-recipe", recipe)
    result = compressed(invoke, network, path, *asked)
    assert result.exit_code == 0, result.output
    assert path.stat().st_size <= size
    again = tmp_path / "again.subbyte"
    assert invoke("compress", *network, "--recipe", recipe, "--output", again).exit_code == 0
    for made in (path, again):
        assert "int8+2:4" in str(shares(subbyte.load(made).graph))


def test_wrong_options_of_activations_and_float_layers(
    invoke: Invoke, fails: Fails, network: tuple[object, ...], table: Path, tmp_path: Path
) -> None:
    words = ("compress", *network, "--recipe", "w8a8", "--output", tmp_path / "a.subbyte")
    number = "the mean bits of activations must be a number above 0, like 4.2, not "
    fails(number + "0", *words, "--mean-activation-bits", 0)
    assert invoke(*words, "--mean-activation-bits", "nan").exit_code == 2
    fails("--float-layers needs a budget: --size", *words, "--float-layers", "fp16")
    fails("can have fp32, fp16, not 'int8'", *words, "--size", "1MB", "--float-layers", "int8")
    fails("--patterns needs a budget: --size", *words, "--patterns", "2:4")
    fails("--patterns: a pattern of weights is dense", *words, "--size", "1MB", "--patterns", "4:2")
    given = (*words, "--sensitivity", table)
    advice = "run the analysis again with --weight-bits 8,4,3,2,fp16"
    fails(advice, *given, "--size", "1MB", "--float-layers", "fp16")
    fails(
        "1.9 bits on average (nearest: 2.00; they may have 8, 4, 3, 2)", *given, "--mean-activation-bits", 1.9
    )
