"""Killed at any step and started again, training ends at the same bits."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.boundary.tree import ROOT

STEPS = 11  # 3 epochs of 30 images, 8 a step


def run(*arguments: object) -> int:
    words = [sys.executable, "-m", "tests.unit.training.training", *map(str, arguments)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, timeout=300).returncode


def metrics(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def whole(source: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    assert run(f"{source}:build", folder, out) == 0
    return out


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_steps(seed: int, source: Path, folder: Path, whole: Path, tmp_path: Path) -> None:
    """Twice; the images are then read by another process, which makes no difference."""
    for step in sorted(random.Random(seed).sample(range(1, STEPS + 1), 2)):
        assert run(f"{source}:build", folder, tmp_path, f"kill={step}") == -signal.SIGKILL
    assert run(f"{source}:build", folder, tmp_path, "workers=1") == 0
    one, two = ((out / "model.safetensors").read_bytes() for out in (whole, tmp_path))
    assert one == two
    assert metrics(whole) == metrics(tmp_path)
    assert [record["step"] for record in metrics(whole)] == [4, 8, STEPS]
