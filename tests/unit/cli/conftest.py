"""A tiny network as a user's own file, its artifacts, and folders of images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from subbyte.cli.app import app

SOURCE = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU6(), nn.Conv2d(8, 8, 3, groups=8, padding=1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6))

def broken():
    raise ValueError("no such luck")

def number():
    return 3

def unsupported():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Softshrink())

def two_outputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 1)
        def forward(self, x):
            return self.a(x), self.b(x)
    return Two()
"""
CLASSES = ("ant", "bee", "cat", "dog", "elk", "fox")
Invoke = Callable[..., Any]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "network.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve labelled images of noise, two of each class."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(3)
    rows = ["file,label"]
    for i in range(12):
        pixels = rng.integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
        rows.append(f"{i:02}.png,{i % 6}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def compressed(folder: Path, source: Path, images: Path, recipe: str, callable_: str = "build") -> Path:
    names = folder / "classes.txt"
    names.write_text("\n".join(CLASSES))
    path = folder / f"tiny-{recipe}.subbyte"
    arguments = [
        *("compress", f"{source}:{callable_}", "--input-size", "16", "--recipe", recipe),
        *("--calibration", str(images), "--output", str(path)),
        *(("--classes", str(names)) if callable_ == "build" else ()),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(scope="session")
def int8(tmp_path_factory: pytest.TempPathFactory, source: Path, images: Path) -> Path:
    return compressed(tmp_path_factory.mktemp("int8"), source, images, "w8a8")


@pytest.fixture(scope="session")
def fp32(tmp_path_factory: pytest.TempPathFactory, source: Path, images: Path) -> Path:
    return compressed(tmp_path_factory.mktemp("fp32"), source, images, "fp32")


@pytest.fixture(scope="session")
def two_outputs(tmp_path_factory: pytest.TempPathFactory, source: Path, images: Path) -> Path:
    return compressed(tmp_path_factory.mktemp("two"), source, images, "w8a8", "two_outputs")


@pytest.fixture
def fails(invoke: Invoke) -> Callable[..., None]:
    """Runs a command that must end with status 1 and one line `error: ...` on stderr, nothing else."""

    def run(message: str, *arguments: object) -> None:
        result = invoke(*arguments)
        assert result.exit_code == 1, result.output
        assert result.stdout == ""
        lines = result.stderr.splitlines()
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("error: ")
        assert message in lines[0]

    return run
