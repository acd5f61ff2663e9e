"""bench/hands.py on two photographs and tiny networks, and bench/hand_frames.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import hand_frames, hands
from subbyte.hands import from_landmarks
from tests.unit.hands import networks
from tests.unit.hands.test_region import UPRIGHT


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return networks.write(tmp_path_factory.mktemp("hands"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bright photograph, whose hand is where the networks find it, and a black one."""
    path = tmp_path_factory.mktemp("photographs")
    found = from_landmarks(UPRIGHT, networks.SIZE).to_image(networks.POINTS)
    rows = ["file," + ",".join(f"u{i},v{i}" for i in range(21))]
    for name, shade, points in (("a.png", 255, found), ("b.png", 0, UPRIGHT)):
        Image.fromarray(np.full((240, 240, 3), shade, np.uint8)).save(path / name)
        rows.append(f"{name}," + ",".join(f"{v:.6f}" for v in points.ravel()))
    (path / "labels.csv").write_text("\n".join(rows) + "\n")
    return path


def test_rows(
    files: tuple[Path, Path], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results.json"
    words = [files[1], "--data", folder, "--palm", files[0], "--against", files[1], "--json", results]
    assert hands.main([str(word) for word in words]) == 0
    true, palm = json.loads(results.read_text())
    assert (true["squares"], true["hands"], true["found"]) == ("true", 2, 2)
    assert (palm["squares"], palm["hands"], palm["found"]) == ("palm.subbyte", 2, 1)
    assert true["apart"] == [0, 0]
    assert palm["pck"] <= 0.5
    assert capsys.readouterr().out.count("landmarks.subbyte") == 2


def test_times(files: tuple[Path, Path], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hands.main([str(files[1]), "--data", str(folder), "--seconds", "0.01"]) == 0
    assert "landmarks.subbyte" in capsys.readouterr().out


def test_what_is_refused(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hands.main([str(files[1]), "--data", str(tmp_path)]) == 1
    assert "has no labels" in capsys.readouterr().err


def test_frames_move(tmp_path: Path) -> None:
    photograph = np.zeros((60, 60, 3), np.uint8)
    photograph[28:32, 28:32] = 255
    Image.fromarray(photograph).save(tmp_path / "a.png")
    words = [tmp_path / "a.png", tmp_path / "frames", "--count", 16, "--width", 160, "--height", 120]
    assert hand_frames.main([str(word) for word in words]) == 0
    centres = []
    for path in sorted((tmp_path / "frames").iterdir()):
        with Image.open(path) as frame:
            white = np.argwhere(np.asarray(frame)[..., 1] > 200)
        centres.append(white.mean(axis=0)[::-1])
    # on the ellipse: a quarter of the way round, from its right end to its lower one
    np.testing.assert_allclose(centres[0], (160 / 2 + 160 / 8 - 0.5, 120 / 2 - 0.5), atol=1)
    np.testing.assert_allclose(centres[15], (160 / 2 - 0.5, 120 / 2 + 120 / 12 - 0.5), atol=1)
