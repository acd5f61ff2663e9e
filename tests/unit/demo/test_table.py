"""The demo's images and the table that goes into the front page."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from demo import table
from subbyte.data import image_folder, labelled_folder, load_image
from subbyte.preprocess import Preprocessing

DEMO = Path(table.__file__).parent
ROWS = [
    {
        "name": "lite0-w4a8",
        "precision": "w4a8",
        "peer": False,
        "images": 8,
        "top1": 5,
        "top5": 7,
        "agreement": None,
        "file_bytes": 2_600_000,
        "latency_ms": 1.25,
        "float_speedup": 2.5,
        "fastest_float": "onnxruntime-fp32",
    },
    {
        "name": "onnxruntime-int8",
        "precision": "int8",
        "peer": True,
        "images": None,
        "top1": None,
        "top5": None,
        "agreement": None,
        "file_bytes": 5_000_000,
        "latency_ms": None,
        "float_speedup": None,
        "fastest_float": "onnxruntime-fp32",
    },
]


def test_table_has_a_line_per_row() -> None:
    lines = table.markdown_of(json.dumps(ROWS)).splitlines()
    assert "| speedup vs onnxruntime-fp32 |" in lines[0]
    assert lines[2:] == [
        "| **subbyte w4a8** | 5 of 8 | – | 2.60 MB | 1.25 ms | 2.50× |",
        "| onnxruntime-int8 | – | – | 5.00 MB | – | – |",
    ]


def test_placed_replaces_only_what_is_between_the_marks() -> None:
    page = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    assert table.placed(page, "new\n") == f"before\n{table.BEGIN}\nnew\n{table.END}\nafter\n"
    with pytest.raises(SystemExit, match="has no"):
        table.placed("before\n", "new\n")
    assert table.placed((DEMO.parent / "README.md").read_text("utf-8"), "")


def test_images_are_attributed_readable_and_kept_apart() -> None:
    preprocessing = Preprocessing(32, 32, (0.0,) * 3, (1.0,) * 3)
    files = {}
    for folder, count in (("images", 100), ("calibration", 30)):
        samples = labelled_folder(DEMO / folder, 1000)
        assert sorted(sample.path for sample in samples) == [s.path for s in image_folder(DEMO / folder)]
        assert len(samples) == count
        for sample in samples:
            load_image(sample.path, preprocessing)
        with (DEMO / folder / "labels.csv").open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        assert all(row["author"] and row["url"] and "/licenses/by/2.0" in row["licence"] for row in rows)
        files[folder] = {sample.path.read_bytes() for sample in samples}
        assert len(files[folder]) == count
    assert not files["images"] & files["calibration"]
