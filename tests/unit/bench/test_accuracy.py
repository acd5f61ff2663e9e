"""The accuracy table counts what the engine answers, and the page holds it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import accuracy
from subbyte.artifact import Artifact, save
from subbyte.cli.measure import subject
from subbyte.compress import compress
from subbyte.data.samples import Sample, batches, with_resize
from subbyte.execute import reference
from subbyte.metrics.statistics import Paired, random_effects
from subbyte.preprocess import Preprocessing
from subbyte.recipes import load_recipe
from tests.unit.compress.networks import efficientnet_like, random_images

PREPROCESSING = Preprocessing(8, 8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
NAMES = tuple(f"class{i}" for i in range(10))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    graph = efficientnet_like()
    made = []
    for name in ("fp32", "w4a8"):
        recipe = load_recipe(name)
        compressed = compress(graph, recipe, [random_images(graph, 8)])
        made.append(tmp_path / f"{name}.subbyte")
        save(made[-1], Artifact(compressed, recipe.model_dump(mode="json"), PREPROCESSING, NAMES, {}))
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    lines = ["file,label"]
    (tmp_path / "set").mkdir()
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / "set" / f"{i}.png")
        lines.append(f"{i}.png,{i}")
    (tmp_path / "set" / "labels.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "set"


def test_counts_are_those_of_the_reference(files: list[Path], folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    third = shutil.copytree(folder, tmp_path / "third")
    result = accuracy.measure(files, [f"{folder}:squash", f"{copy}:squash"], f"{third}:squash", 0.0)
    samples = [Sample(folder / f"{i}.png", i) for i in range(6)]
    (x,) = batches(samples, with_resize(PREPROCESSING, "squash"))
    best = []
    for path in files:
        graph = subject(path, None, 1, None).artifact.graph
        best.append(reference.run(graph, x)[graph.outputs[0]].argmax(1))
    right = [int((b == np.arange(6)).sum()) for b in best]
    assert [row["right"] for row in result["rows"]] == [[r, r] for r in right]
    assert result["rows"][1]["same"] == 2 * int((best[0] == best[1]).sum())
    assert result["rows"][1]["gained"] - result["rows"][1]["lost"] == 2 * (right[1] - right[0])
    found = result["rows"][1]["agreement"]
    assert result["agreement_images"] == 6
    assert found["same"] == int((best[0] == best[1]).sum())
    assert found["gained"] - found["lost"] == right[1] - right[0]
    assert set(result["rows"][0]["weights"]) == {"32"}
    assert sum(result["rows"][1]["weights"].values()) == pytest.approx(1.0)


def test_the_page_takes_the_table(
    files: list[Path], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{accuracy.BEGIN}\nold\n{accuracy.END}\nafter\n")
    monkeypatch.setattr(accuracy, "RESULTS", tmp_path)
    output = tmp_path / "accuracy-tiny.json"
    arguments = [*map(str, files), "--data", f"{folder}:squash", "--output", str(output), "--seconds", "0"]
    assert accuracy.main([*arguments, "--page", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert accuracy.table([json.loads(output.read_text())]) in text
    assert "of 6" in text


def test_a_missing_folder_is_one_line(files: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert accuracy.main([str(files[0]), "--data", "nowhere:crop", "--output", "x.json"]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_drops_of_two_sets_together() -> None:
    """By hand: differences -2/100 and -8/100 with the variances of McNemar's table, Q = 2.18 with 1 degree of
    freedom, so that the interval is wider than that of 200 images of one set."""
    result = {"images": [60, 40], "rows": [{"name": "a", "lost": 3, "gained": 1}, {"name": "b"}]}
    others = {"images": 100, "rows": {"a": {"lost": 9, "gained": 1}}}
    *_, line = accuracy.pooled_table(result, others).splitlines()
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:4] == ["a", "2 of 100", "8 of 100", "5.0 points"]
    pairs = [Paired(100, 3, 1), Paired(100, 9, 1)]
    low, high = random_effects([-0.02, -0.08], [p.variance for p in pairs]).interval()
    assert cells[4] == f"{-100 * high:.1f} to {-100 * low:.1f}"
    assert high - low > 2 * 1.96 * (0.14 / 200 - 0.05**2 / 200) ** 0.5  # of one set of 200 images
