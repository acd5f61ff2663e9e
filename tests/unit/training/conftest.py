"""Tiny labelled images, in a folder and in shards, and a network that trains on them in moments."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

COUNT, CLASSES = 30, ("ant", "bee", "cat")
SOURCE = """
import torch
from torch import nn

def build():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.0), nn.Linear(8, 3))

def fixed_size():
    return nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.Flatten(), nn.Linear(2 * 16 * 16, 3))

def two_classes():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))

def empty():
    return nn.Flatten()
"""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "network.py"
    path.write_text(SOURCE)
    return path


def png(index: int) -> bytes:
    """Noise around a colour of its class, 20 wide and 18 high."""
    rng = np.random.default_rng(index)
    pixels = rng.integers(0, 120, (18, 20, 3), np.uint8)
    pixels[..., index % 3] += 100
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folder")
    rows = ["file,label"]
    for i in range(COUNT):
        (root / f"{i:03}.png").write_bytes(png(i))
        rows.append(f"{i:03}.png,{i % 3}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images in two tar files."""
    root = tmp_path_factory.mktemp("shards")
    for number in range(2):
        members: dict[str, bytes] = {}
        for i in range(number * COUNT // 2, (number + 1) * COUNT // 2):
            members |= {f"{i:03}.png": png(i), f"{i:03}.cls": str(i % 3).encode()}
        write_tar(root / f"train-{number}.tar", members)
    return root


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
