"""A tiny space with a choice of everything, and images for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from subbyte.search import Space, load_space

TINY = """
name = "tiny"
resolution = [16, 24]
stem = [8, 16]
head = [16, 32]

[[stage]]
kind = ["cn", "ds"]
depth = [1, 2]
channels = [8, 16]
se = [0.0, 0.25]
skip = [true, false]

[[stage]]
kind = ["ir", "er"]
stride = 2
depth = [1, 2]
kernel = [3, 5]
expand = [2, 4]
channels = [16, 24]
se = [0.0, 0.25]
weights = ["int8", "int4", "int8+2:4"]
"""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def space(file: Path) -> Space:
    return load_space(file)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty images of noise in two subfolders."""
    root = tmp_path_factory.mktemp("classes")
    rng = np.random.default_rng(4)
    for i in range(20):
        folder = root / ("ant", "bee")[i % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(folder / f"{i}.png")
    return root
