"""`subbyte run`, `evaluate` and `inspect` on a tiny network."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import subbyte
from subbyte.data import labelled_folder, load_image
from subbyte.metrics import score
from subbyte.tasks import predict
from tests.fuzz.builder import Builder
from tests.fuzz.graphs import wrap

Invoke = Callable[..., Any]
Fails = Callable[..., None]


def test_run_names_the_best_classes(invoke: Invoke, int8: Path, images: Path) -> None:
    files = [images / "00.png", images / "01.png"]
    result = invoke("run", int8, *files, "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    artifact = subbyte.load(int8)
    assert artifact.classes is not None
    assert [row["file"] for row in rows] == [str(file) for file in files]
    for row, file in zip(rows, files, strict=True):
        logits = subbyte.Session(int8).run(load_image(file, artifact.preprocessing))[0]
        assert row["top"][0]["class"] == int(logits.argmax())
        assert row["top"][0]["name"] == artifact.classes[int(logits.argmax())]
        assert [guess["probability"] for guess in row["top"]] == sorted(
            (guess["probability"] for guess in row["top"]), reverse=True
        )
    text = invoke("run", int8, *files).stdout
    assert str(files[1]) in text
    assert rows[1]["top"][0]["name"] in text


def test_run_takes_arrays(invoke: Invoke, int8: Path, images: Path, tmp_path: Path) -> None:
    x = load_image(images / "00.png", subbyte.load(int8).preprocessing)
    np.save(tmp_path / "x.npy", np.stack([x, x]))
    rows = json.loads(invoke("run", int8, tmp_path / "x.npy", "--json").stdout)
    image = json.loads(invoke("run", int8, images / "00.png", "--json").stdout)
    assert [row["top"] for row in rows] == [image[0]["top"]] * 2


def test_run_refuses_bad_arrays(fails: Fails, int8: Path, tmp_path: Path) -> None:
    def refused(message: str, array: np.ndarray) -> None:
        np.save(tmp_path / "x.npy", array)
        fails(message, "run", int8, tmp_path / "x.npy")

    good = np.zeros((16, 16, 3), np.float32)
    refused("input must be float32 [N, 16, 16, 3]", np.zeros((16, 15, 3), np.float32))
    refused("input must be float32 [N, 16, 16, 3]", np.zeros((3, 16, 16), np.float32))
    refused("input must be a float32", good.astype(np.float64))
    refused("input must be a float32", good.astype(np.uint8))
    for value in (np.nan, np.inf, -np.inf):
        bad = good.copy()
        bad[3, 4, 1] = value
        refused("NaN or infinity", bad)
    refused("cannot read", np.array([{"an": "object"}]))
    (tmp_path / "x.npy").write_bytes(b"no array")
    fails("cannot read", "run", int8, tmp_path / "x.npy")
    fails("there is no file", "run", int8, tmp_path / "missing.npy")


def test_run_refuses_bad_files(
    fails: Fails, int8: Path, two_outputs: Path, images: Path, tmp_path: Path
) -> None:
    image = images / "00.png"
    fails("missing.subbyte", "run", tmp_path / "missing.subbyte", image)
    damaged = tmp_path / "damaged.subbyte"
    damaged.write_bytes(int8.read_bytes()[:-1])
    fails("damaged.subbyte", "run", damaged, image)
    fails("there is no file", "run", int8, tmp_path / "missing.png")
    broken = tmp_path / "broken.png"
    broken.write_bytes(image.read_bytes()[:60])
    fails("broken.png as an image", "run", int8, broken)
    fails("available: ", "run", int8, image, "--isa", "sse")
    fails("crop, squash", "run", int8, image, "--resize", "stretch")
    fails("no classifier", "run", two_outputs, image)


def test_isa_and_threads_do_not_change_the_answer(invoke: Invoke, int8: Path, images: Path) -> None:
    arguments = ("run", int8, images / "03.png", "--json")
    answers = {invoke(*arguments, "--isa", isa).stdout for isa in subbyte.available_isas()}
    assert len(answers | {invoke(*arguments, "--threads", 2).stdout}) == 1


def test_evaluate_counts(invoke: Invoke, int8: Path, fp32: Path, images: Path) -> None:
    result = invoke("evaluate", int8, "--data", images, "--reference", fp32, "--json")
    assert result.exit_code == 0, result.output
    row = json.loads(result.stdout)
    samples = labelled_folder(images)
    preprocessing = subbyte.load(int8).preprocessing
    answers = [predict(subbyte.Session(file).run, samples, preprocessing) for file in (int8, fp32)]
    expected = score(answers[0], samples)
    assert (row["images"], row["top1"], row["top5"]) == (12, expected.top1, expected.top5)
    assert row["top1_interval_95"] == list(expected.interval())
    assert row["agreement"] == int((answers[0].top[:, 0] == answers[1].top[:, 0]).sum())
    assert row["isa"] == subbyte.available_isas()[-1]
    text = invoke("evaluate", int8, "--data", images, "--reference", fp32).stdout
    assert f"{expected.top1} of 12" in text
    limited = json.loads(invoke("evaluate", int8, "--data", images, "--limit", 5, "--json").stdout)
    assert limited["images"] == 5


def test_evaluate_resizes_as_told(invoke: Invoke, int8: Path, images: Path) -> None:
    """The images are no squares, so that squashing gives other inputs than cropping."""
    samples = labelled_folder(images)
    preprocessing = subbyte.load(int8).preprocessing
    crop, squash = (
        json.loads(invoke("run", int8, samples[0].path, "--resize", mode, "--json").stdout)
        for mode in ("crop", "squash")
    )
    assert crop == json.loads(invoke("run", int8, samples[0].path, "--json").stdout)
    assert crop != squash
    assert preprocessing.crop_mode == "center"
    assert invoke("evaluate", int8, "--data", images, "--resize", "squash").exit_code == 0


def test_evaluate_refuses(fails: Fails, int8: Path, two_outputs: Path, images: Path, tmp_path: Path) -> None:
    fails("is not a folder", "evaluate", int8, "--data", tmp_path / "missing")
    fails("holds no labelled images", "evaluate", int8, "--data", tmp_path)
    fails("no classifier", "evaluate", two_outputs, "--data", images)
    (tmp_path / "00.png").write_bytes((images / "00.png").read_bytes())
    fails("has no labels", "evaluate", int8, "--data", tmp_path)
    (tmp_path / "labels.csv").write_text("file,label\n00.png,6\n")
    fails("label 6: the network has 6 classes", "evaluate", int8, "--data", tmp_path)


def test_inspect_says_what_executes(invoke: Invoke, int8: Path) -> None:
    result = invoke("inspect", int8, "--repeats", 2, "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["file_bytes"] == int8.stat().st_size
    assert facts["input"] == [16, 16, 3]
    assert facts["recipe"]["name"] == "w8a8"
    convolutions = [row for row in facts["plan"] if row["macs"]]
    assert [row["macs"] for row in convolutions] == [8 * 8 * 8 * 27, 8 * 8 * 8 * 9, 48]
    assert {row["requested"] for row in convolutions} == {"int8 uint8"}
    assert {row["executed"] for row in convolutions} == {"int8 uint8"}
    assert all(row["weight_bytes"] > 0 for row in convolutions)
    assert {row["executed"] for row in facts["plan"] if not row["macs"]} <= {"uint8", "fp32"}
    assert sum(row["share"] for row in facts["plan"]) == pytest.approx(1)
    assert facts["arena_bytes"] >= max(row["buffer_offset"] + row["buffer_bytes"] for row in facts["plan"])


def test_inspect_shows_the_buffer_plan(invoke: Invoke, tmp_path: Path) -> None:
    """Two layers of 256 KiB between small ones run depth-first together, a few rows at a time."""
    b = Builder(random.Random(1), (128, 128, 3))
    x = b.qconv(b.quantize("image"), 64, (3, 3), stride=2, act="relu")
    y = b.qconv(b.qconv(x, 64, (3, 3), groups=64, act="silu"), 8, bits=4)
    path = tmp_path / "large.subbyte"
    subbyte.save(path, wrap(b.finish(b.add("global_avg_pool", [y], b.grid()))))
    result = invoke("inspect", path, "--repeats", 0, "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    session = subbyte.Session(path)
    (region,) = facts["regions"]
    rows = [row for row in facts["plan"] if row["region"] == 0]
    assert region["steps"] == [row["name"] for row in rows]
    assert len(rows) == 3
    assert region["height"] == [64, 64, 64]
    assert region["row_tiles"] > 1
    assert all(0 < rows < 64 for rows in region["tile_rows"])
    assert 3 <= region["line_buffer_rows"][0] < 64
    assert region["line_buffer_rows"][-1] == 0  # the region's result is whole
    assert facts["arena_bytes"] < facts["arena_bytes_layer_by_layer"]
    assert facts["arena_bytes_layer_by_layer"] >= 2 * 64 * 64 * 64
    assert facts["peak_activation_bytes"] == max(row["live_bytes"] for row in session.plan())
    assert facts["peak_activation_bytes"] <= facts["arena_bytes"] == session.arena_bytes
    assert facts["scratch_bytes"] == session.scratch_bytes > 0
    text = invoke("inspect", path, "--repeats", 0).stdout
    assert f"{region['steps'][0]} … {region['steps'][-1]}" in text
    assert f"{region['tile_rows'][0]}/{region['line_buffer_rows'][0]}/64" in text


def test_inspect_prints_a_row_per_step(invoke: Invoke, int8: Path) -> None:
    result = invoke("inspect", int8, "--repeats", 0, "--isa", "portable")
    assert result.exit_code == 0, result.output
    names = [row["name"] for row in subbyte.Session(int8, isa="portable").plan()]
    rows = result.stdout[result.stdout.index("requested") :].splitlines()[1:]
    assert [row.split()[0] for row in rows] == names
    assert "%" not in "".join(rows)
