"""The page of float32 networks: sums from a small graph, on the engine and in ONNX Runtime."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import pytest

from bench import float32, roofline
from tests.fuzz.builder import Builder

pytest.importorskip("onnxruntime")


def test_measures_and_renders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(float32, "SIZE", 8)
    monkeypatch.setattr(roofline, "PEAK_SECONDS", 0.001)
    b = Builder(random.Random(1), (8, 8, 3))
    x = b.fconv(b.fconv("image", 16, 3, act="relu"), 16, 3, act="silu")
    graph = b.finish(b.flinear(b.flatten(b.add("global_avg_pool", [x])), 5))
    options = argparse.Namespace(seconds=0.1, runs=2)
    measured = float32.measure("small", graph, options)
    macs = 8 * 8 * 16 * 9 * (3 + 16) + 16 * 5
    assert measured.result.macs == macs
    cells = [cell.strip() for cell in float32.speed_row(measured).split("|")[1:-1]]
    assert cells[0] == "small"
    assert len(cells) == float32.SPEEDS[1].count("---")
    ours, peer = (float32.timing(measured.result, peer=peer).ms.min for peer in (False, True))
    assert cells[7] == f"{peer / ours:.2f}"
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in float32.kind_rows(measured.profile)]
    assert [(row[1], row[2]) for row in rows] == [
        *(("k × k", "2"), ("classifier", "1"), ("other", "2"), ("all", "5"))
    ]
    assert all(len(row) == float32.KINDS[1].count("---") for row in rows)
    page = float32.render([measured])
    assert float32.speed_row(measured) in page
    assert all(row in page for row in float32.kind_rows(measured.profile))


def test_unknown_network(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert float32.main(["--only", "vgg", "--output", str(tmp_path)]) == 1
    assert "vgg" in capsys.readouterr().err
