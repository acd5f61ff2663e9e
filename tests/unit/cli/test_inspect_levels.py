"""Activations that are levels are called so, and never mistaken for 4-bit codes."""

from __future__ import annotations

import json
from pathlib import Path

from subbyte.artifact import save
from subbyte.benchmark.candidate import weight_precision
from tests.fuzz.graphs import seeds
from tests.unit.cli.conftest import Invoke


def test_inspect_says_what_levels_are(invoke: Invoke, tmp_path: Path) -> None:
    artifact = seeds()["leveled"]
    save(tmp_path / "a.subbyte", artifact)
    shown = invoke("inspect", tmp_path / "a.subbyte", "--repeats", 0)
    assert shown.exit_code == 0
    assert (
        "3 x 4-bit levels in a byte, 1 x 3-bit levels in a byte, 3 x 2-bit levels in a byte" in shown.stdout
    )
    found = json.loads(invoke("inspect", tmp_path / "a.subbyte", "--repeats", 0, "--json").stdout)
    formats = {(row["requested"].split()[-1], row["executed"].split()[-1]) for row in found["plan"]}
    assert ("uint4+levels", "uint8") in formats
    assert weight_precision(artifact.graph).endswith("+levels")
    save(tmp_path / "b.subbyte", seeds()["quantized4"])
    assert "levels" not in json.loads(invoke("inspect", tmp_path / "b.subbyte", "--json").stdout)
    assert not weight_precision(seeds()["quantized4"].graph).endswith("+levels")
