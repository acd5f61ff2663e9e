"""The page of networks is what the generator writes, and its rows are what the result files say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bench import zoo
from subbyte.cli.app import command
from subbyte.errors import InputError
from subbyte.recipes import load_recipe

ANALYSES, RESULTS = (zoo.ROOT / "bench" / name for name in ("analyses", "results"))
PAGE = zoo.ROOT / "docs" / "zoo.md"


def test_the_page_is_what_the_generator_writes(tmp_path: Path) -> None:
    copy = tmp_path / "zoo.md"
    before, rest = PAGE.read_text("utf-8").split(zoo.BEGIN)
    copy.write_text(f"{before}{zoo.BEGIN}\nan old table\n{zoo.END}{rest.split(zoo.END)[1]}", "utf-8")
    assert zoo.main(["--page", str(copy)]) == 0
    assert copy.read_text("utf-8") == PAGE.read_text("utf-8")


def test_every_command_is_one() -> None:
    """Recipes that exist, options that `subbyte compress` has."""
    known = {option for parameter in command("compress").params for option in parameter.opts}
    for entry in zoo.zoo(ANALYSES, RESULTS):
        assert load_recipe(entry.recipe if "/" not in entry.recipe else zoo.ROOT / entry.recipe)
        words = entry.cells()[-1].strip("`").split()
        assert {word for word in words if word.startswith("--")} <= known
        assert words[:3] == ["subbyte", "compress", entry.network]


def test_a_measured_file_takes_the_place_of_a_timed_one(tmp_path: Path) -> None:
    shutil.copytree(ANALYSES, tmp_path / "analyses")
    path = tmp_path / "analyses" / "accuracy-lite0.json"
    result = json.loads(path.read_text("utf-8"))
    (row,) = (row for row in result["rows"] if row["name"] == "lite0-w8a8")
    row |= {"right": [1, 2], "file_bytes": 9_270_596}
    row["agreement"]["same"] = 5000
    path.write_text(json.dumps(result), "utf-8")
    found = [
        entry.cells()
        for entry in zoo.zoo(tmp_path / "analyses", RESULTS)
        if (entry.network, entry.kind) == ("tf_efficientnet_lite0", "w8a8")
    ]
    timed = json.loads((RESULTS / "tf_efficientnet_lite0-224-t1.json").read_text("utf-8"))
    (own,) = (t for t in timed["timings"] if (t["name"], t["precision"]) == ("subbyte", "w8a8"))
    assert [cells[3:9] for cells in found] == [
        ["9.27", "2.0", "3 of 1150", "50.0 %", f"{row['latency_ms']:.2f}", f"{own['ratio']['median']:.2f}"]
    ]


def test_folders_without_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no results"):
        zoo.zoo(ANALYSES, tmp_path)
    with pytest.raises(InputError, match=r"holds no accuracy-\*\.json"):
        zoo.zoo(tmp_path, RESULTS)
