"""`subbyte hands` with tiny networks that see a hand where it is bright."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.unit.hands import networks

Invoke = Callable[..., Any]
Fails = Callable[..., None]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return networks.write(tmp_path_factory.mktemp("hands"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five frames: a hand, a hand, none, an image that is damaged, a hand."""
    path = tmp_path_factory.mktemp("frames")
    for i, shade in enumerate((255, 255, 0, 0, 255)):
        Image.fromarray(np.full((40, 48, 3), shade, np.uint8)).save(path / f"{i}.png")
    (path / "3.png").write_bytes(b"nothing")
    return path


def options(files: tuple[Path, Path]) -> list[object]:
    return ["--palm", files[0], "--landmarks", files[1]]


def test_frames(invoke: Invoke, files: tuple[Path, Path], folder: Path, tmp_path: Path) -> None:
    results = tmp_path / "drawn", tmp_path / "crops", tmp_path / "page.html"
    result = invoke(
        "hands", folder, *options(files), "--output", results[0], "--crops", results[1], "--page", results[2]
    )
    assert result.exit_code == 1  # of the damaged image
    lines = result.stdout.splitlines()
    assert lines[0].startswith("0.png: right hand found, presence 1.00, palm ")
    assert lines[1].startswith("1.png: right hand followed, presence 1.00, crop ")
    assert lines[2] == "2.png: no hand"
    assert lines[3].startswith("4.png: right hand found")
    assert "3 hands" in result.stdout
    assert "3.png" in result.stderr
    assert [path.name for path in sorted(results[0].iterdir())] == [
        "000001-0.png",
        "000002-1.png",
        "000003-2.png",
        "000004-4.png",
    ]
    crops = sorted(results[1].iterdir())
    assert [path.name for path in crops] == ["000001-0.png", "000002-1.png", "000004-4.png"]
    with Image.open(crops[0]) as crop:
        assert crop.size == (networks.SIZE, networks.SIZE)
    assert results[2].read_text("utf-8").count("<svg") == 4


def test_json(invoke: Invoke, files: tuple[Path, Path], folder: Path) -> None:
    result = invoke("hands", folder, *options(files), "--json", "--separate", "--limit", 3)
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert [frame["frame"] for frame in found["frames"]] == ["0.png", "1.png", "2.png"]
    first, second, third = (frame["hand"] for frame in found["frames"])
    assert np.shape(first["points"]) == np.shape(second["world"]) == (21, 3)
    assert not second["followed"]
    assert third is None
    assert found["milliseconds"]["palm"]["frames"] == 3


def test_one_black_image(invoke: Invoke, files: tuple[Path, Path], folder: Path) -> None:
    result = invoke("hands", folder / "2.png", *options(files))
    assert result.exit_code == 0
    assert result.stdout.startswith("2.png: no hand\n")


def test_what_is_refused(fails: Fails, files: tuple[Path, Path], folder: Path, tmp_path: Path) -> None:
    fails("there is no file", "hands", folder / "9.png", *options(files))
    fails("cannot read", "hands", folder / "3.png", *options(files))
    fails("a palm detector of", "hands", folder, *options(files[::-1]))
    fails("must end in .html", "hands", folder, *options(files), "--page", tmp_path / "page.txt")
    fails("is not a folder", "hands", folder, *options(files), "--output", files[0])
    fails("a camera is camera", "hands", "camera:-1", *options(files))
    fails("none.tflite", "hands", folder, "--palm", tmp_path / "none.tflite", "--landmarks", files[1])
