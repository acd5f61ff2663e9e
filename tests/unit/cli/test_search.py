"""`subbyte search`: what it writes, that the other commands read it, and each thing a user can get wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import subbyte
from tests.fuzz.builder import Builder
from tests.fuzz.graphs import wrap

pytest.importorskip("optuna", reason="needs the extra search")
Invoke = Callable[..., Any]
Fails = Callable[..., None]
SPACE = """
name = "tiny"
resolution = [16]
stem = [8]
head = [16]
[[stage]]
kind = ["ir", "er"]
depth = [1, 2]
kernel = [3, 5]
channels = [8, 16]
"""
SMALL = ("--epochs", "1", "--batch", "4", "--stages", "1", "--population", "3", "--generations", "2")
TARGET = ("--target", "raspberry-pi-5")


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "tiny.toml"
    path.write_text(SPACE)
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images of noise in two subfolders."""
    root = tmp_path_factory.mktemp("classes")
    rng = np.random.default_rng(4)
    for i in range(10):
        folder = root / ("ant", "bee")[i % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(folder / f"{i}.png")
    return root


def test_from_a_space_to_networks(invoke: Invoke, space: Path, folders: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("search", space, "--data", folders, "--output", out, *SMALL, *TARGET, "--random")
    result = invoke(*words, "--export", "1")
    assert result.exit_code == 0, result.output
    assert "\n8 images, 2 to choose on, 2 outputs, seed 0\n" in result.stdout
    assert "nsga2: 6 networks, 6 within the limits, " in result.stdout
    assert "random: 6 networks, " in result.stdout
    assert {path.name for path in out.iterdir()} == {
        *("supernet", "search.db", "front.json", "front.svg"),
        *(f"found-1{suffix}" for suffix in (".subbyte", ".safetensors", ".py", ".toml")),
    }
    found = json.loads((out / "front.json").read_text())
    assert found["seed"] == 0
    assert found["searches"]["nsga2"]["front"][0]["costs"]["energy"] > 0
    ElementTree.parse(out / "front.svg")
    assert subbyte.load(out / "found-1.subbyte").classes == ("ant", "bee")
    again = invoke(*words)
    assert again.exit_code == 0
    assert again.stdout == result.stdout.partition("number 1: ")[0]
    assert json.loads((out / "front.json").read_text()) == found
    tuned = invoke(
        *("train", f"{out / 'found-1.py'}:network", "--weights", out / "found-1.safetensors"),
        *("--data", folders, "--output", tmp_path / "tuned", "--input-size", "16", "--epochs", "1"),
        *("--batch", "4", "--stages", "1", "--first-size", "1"),
    )
    assert tuned.exit_code == 0, tuned.output
    far = invoke(*words, "--export", "99")
    assert far.exit_code == 1
    assert "there is no number 99 to export" in far.stderr


def test_what_is_wrong(fails: Fails, space: Path, folders: Path, tmp_path: Path) -> None:
    plain = ("search", space, "--data", folders, "--output", tmp_path / "o", *SMALL)
    words = (*plain, *TARGET)
    fails("there is no space 'nothing'", "search", "nothing", *words[2:])
    fails("there is no device 'nothing'", *plain, "--target", "nothing")
    fails("--cost is one of latency, energy", *words, "--cost", "money")
    fails("--latency must be a number above 0 with a unit", *words, "--latency", "soon")
    fails("the task keypoints is learned from a --teacher", *words, "--task", "keypoints")
    fails("unknown task 'nothing'", *words, "--task", "nothing")
    fails("is not a folder", "search", space, "--data", tmp_path / "none", *words[4:])
    fails("none.subbyte", *words, "--teacher", tmp_path / "none.subbyte")
    teacher = tmp_path / "three.subbyte"
    b = Builder(Random(0), (8, 8, 3))
    subbyte.save(teacher, wrap(b.finish(b.flinear(b.flatten(b.add("global_avg_pool", ["image"], None)), 3))))
    fails("key points are one output of x and y", *words, "--teacher", teacher, "--task", "keypoints")
    fails("none of 6 networks is within the limits", *words, "--latency", "1us")
