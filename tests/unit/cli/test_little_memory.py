"""Where the address space is short (`ulimit -v`), a command ends by itself, with one line that says why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from subbyte.artifact import save
from tests.fuzz.graphs import seeds

LIMITS = range(60, 421, 40)  # MiB of address space: from less than Python needs to more than the command does


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("little") / "a.subbyte"
    save(path, seeds()["quantized2"])
    return path


@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="ASan needs its address space")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of address space are Linux's")
@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("limit", LIMITS)
def test_a_command_ends_by_itself(artifact: Path, limit: int, threads: int) -> None:
    command = (
        f"ulimit -v {limit << 10}; exec {sys.executable} -m subbyte inspect {artifact} --threads {threads}"
    )
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    print(result.returncode, result.stderr[-300:])
    assert result.returncode in (0, 1)
    if limit >= 100:  # below, Python itself or numpy's OpenBLAS gives up, in its own words
        assert "Traceback" not in result.stderr
    if result.returncode:
        assert result.stderr.strip()
