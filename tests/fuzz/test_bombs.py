"""No small file costs much: docs/spec/artifact.md, measured where the kernel counts memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.boundary.tree import ROOT
from tests.fuzz.bombs import BOMBS, TIME_LIMIT

MEMORY = 200_000_000  # bytes: what docs/spec/artifact.md promises
MOST_WORK = 1 << 24  # kMostWork and kMostRows of native/plan/regions.cc
MOST_ROWS = 1 << 21

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel counts no memory")


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, Any]]:
    """How each bomb ended, by its name; one that hung or crashed is missing."""
    pytest.importorskip("subbyte._native", reason="the engine is not built", exc_type=ImportError)
    command = [sys.executable, "-m", "tests.fuzz.bombs"]
    limit = TIME_LIMIT * len(BOMBS)
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit)
    print(run.stderr)
    return {row["name"]: row for row in map(json.loads, run.stdout.splitlines())}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_costs_little(results: dict[str, dict[str, Any]], name: str) -> None:
    assert name in results, "it hung or crashed"
    row = results[name]
    print(row)
    assert row["grown"] < MEMORY
    assert len(row["message"]) < 1000
    assert row.get("work", 0) <= MOST_WORK
    assert row.get("rows", 0) <= MOST_ROWS


def test_each_bound_is_what_stops_a_bomb(results: dict[str, dict[str, Any]]) -> None:
    """Or the bombs have lost their use."""
    refused = " ".join(row["message"] for row in results.values())
    for words in (
        "brackets, braces and commas",
        "at most 8 are supported",
        "at most 64 are supported",
        "its activations would take",
        "its weights would take",
    ):
        assert words in refused
    assert results["many tall convolutions"]["end"] == "opened"
    assert results["many tall convolutions"]["work"] > MOST_WORK // 2
    assert results["tall adds"]["work"] > MOST_WORK // 2


def test_a_bomb_in_a_forked_child_is_measured(results: dict[str, dict[str, Any]]) -> None:
    """What opens holds its arena and plan: a count that stays at nothing measures nothing."""
    assert results["adds"]["grown"] > 5_000_000
