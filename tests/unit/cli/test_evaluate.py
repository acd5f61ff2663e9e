"""`subbyte evaluate` beside another artifact, on corrupted images, by shape and texture; and the report's
share of all that."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import subbyte
from subbyte.data import Sample, batches, labelled_folder, with_resize
from subbyte.metrics.accuracy import wilson_interval
from subbyte.metrics.statistics import Paired, calibration_error, correct, paired, random_effects
from subbyte.tasks import predict

Invoke = Callable[..., Any]
Fails = Callable[..., None]


@pytest.fixture
def cues(images: Path, tmp_path: Path) -> Path:
    """Six images whose shape is ant and whose texture is bee."""
    rows = ["file,shape,texture"]
    for i in range(6):
        (tmp_path / f"{i}.png").write_bytes((images / f"{i:02}.png").read_bytes())
        rows.append(f"{i}.png,ant,bee")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "categories.json").write_text(json.dumps({"ant": [0, 2], "bee": [1, 3], "rest": [4, 5]}))
    return tmp_path


def test_comparison_with_another_artifact(invoke: Invoke, int8: Path, fp32: Path, images: Path) -> None:
    arguments = ("evaluate", int8, "--data", images, "--against", fp32)
    row = json.loads(invoke(*arguments, "--json").stdout)
    samples = labelled_folder(images)
    preprocessing = subbyte.load(int8).preprocessing
    answers = [predict(subbyte.Session(file).run, samples, preprocessing) for file in (int8, fp32)]
    right = [correct(answer, samples) for answer in answers]
    both = paired(*right)
    assert (row["lost"], row["gained"], row["difference"]) == (both.lost, both.gained, both.difference)
    assert row["difference_interval_95"] == list(both.interval())
    assert row["mcnemar_p"] == both.p_value()
    assert row["calibration_error"] == calibration_error(answers[0].probability[:, 0], right[0])
    text = invoke(*arguments).stdout
    assert f"{both.lost} lost, {both.gained} gained" in text
    assert "McNemar" in text


@pytest.fixture
def unlabelled(tmp_path: Path) -> Path:
    """Seven images, wider than high, without labels."""
    folder = tmp_path / "no:labels"
    folder.mkdir()
    rng = np.random.default_rng(8)
    for i in range(7):
        Image.fromarray(rng.integers(0, 256, (20, 40, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def test_several_sets_alone_and_together(
    invoke: Invoke, int8: Path, fp32: Path, images: Path, unlabelled: Path
) -> None:
    labels = "".join(f"{i}.png,{i % 6}\n" for i in range(7))
    (unlabelled / "labels.csv").write_text("file,label\n" + labels)
    arguments = ("evaluate", int8, "--against", fp32, "--data")
    both = (*arguments, f"{unlabelled}:squash", "--data", f"{images}:crop")
    whole = json.loads(invoke(*both, "--json").stdout)
    alone = [
        json.loads(invoke(*arguments, folder, "--resize", mode, "--json").stdout)
        for folder, mode in ((unlabelled, "squash"), (images, "crop"))
    ]
    assert [row["resize"] for row in whole["sets"]] == ["squash", "crop"]
    for row, single in zip(whole["sets"], alone, strict=True):
        counted = {key: single[key] for key in row if key not in ("data", "resize")}
        assert {"images", "top1", "agreement", "lost", "gained", "mcnemar_p"} <= set(counted)
        assert {key: row[key] for key in counted} == counted
    for key in ("images", "top1", "top5", "agreement", "changed", "lost", "gained"):
        assert whole[key] == alone[0][key] + alone[1][key]
    pooled = Paired(19, whole["lost"], whole["gained"])
    assert whole["difference_interval_95"] == list(pooled.interval())
    assert whole["agreement_interval_95"] == list(wilson_interval(whole["agreement"], 19))
    pairs = [Paired(row["images"], row["lost"], row["gained"]) for row in whole["sets"]]
    effects = random_effects([p.difference for p in pairs], [p.variance for p in pairs])
    assert whole["between_sets"]["difference_interval_95"] == list(effects.interval())
    text = invoke(*both).stdout
    for row in (*whole["sets"], whole):
        assert f"{row['agreement']}  {100 * row['agreement'] / row['images']:.2f} %" in text
    assert "together" in text
    assert "from 2 sets" in text


def test_agreement_needs_no_labels(
    invoke: Invoke, fails: Fails, int8: Path, fp32: Path, images: Path, unlabelled: Path
) -> None:
    arguments = ("evaluate", int8, "--data", unlabelled, "--against", fp32)
    row = json.loads(invoke(*arguments, "--json").stdout)
    x = [Sample(unlabelled / f"{i}.png") for i in range(7)]
    preprocessing = subbyte.load(int8).preprocessing
    best = [predict(subbyte.Session(file).run, x, preprocessing).top[:, 0] for file in (int8, fp32)]
    same = int((best[0] == best[1]).sum())
    assert (row["images"], row["agreement"], row["changed"]) == (7, same, 7 - same)
    assert not {"top1", "lost", "gained"} & set(row)
    assert f"{same} of 7" in invoke(*arguments).stdout
    mixed = json.loads(invoke(*arguments, "--data", images, "--json").stdout)
    assert mixed["images"] == 19
    assert "top1" not in mixed
    assert "top1" in mixed["sets"][1]
    assert "–" in invoke(*arguments, "--data", images).stdout
    fails("has no labels", "evaluate", int8, "--data", unlabelled)
    fails("has no labels", *arguments, "--reference-accuracy", "0.5")
    fails("has no labels", *arguments, "--corruptions", "fog")


def test_report_takes_several_sets(invoke: Invoke, int8: Path, images: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(images, tmp_path / "copy")
    data = ("--data", f"{images}:crop", "--data", f"{copy}:squash")
    page = tmp_path / "r.html"
    (row,) = json.loads(invoke("report", int8, *data, "--output", page, "--json").stdout)
    together = json.loads(invoke("evaluate", int8, *data, "--json").stdout)
    assert row["images"] == 24
    assert row["top1"] == together["top1"]
    assert f"24 of {images.name} and copy" in page.read_text()


def test_old_names_of_options_work_and_are_not_shown(invoke: Invoke) -> None:
    for command in ("compress", "ablate", "sensitivity"):
        assert "--pictures" not in invoke(command, "--help").stdout
    for given in (("--pictures", 0), ("--pictures=0",)):
        result = invoke("compress", "m", "--recipe", "a", "--output", "x", *given)
        assert result.exit_code == 2
        assert "'--images': Input should be greater than or equal to 1" in result.output
    assert "No such option: --pictures" in invoke("run", "a", "--pictures", 1).output
    both = invoke("compress", "m", "--recipe", "a", "--output", "x", "--pictures", 1, "--images", 2)
    assert "given twice" in both.output


def test_a_value_given_twice_is_an_error(invoke: Invoke, int8: Path, fp32: Path, images: Path) -> None:
    for arguments in (
        ("evaluate", int8, "--data", images, "--against", fp32, "--reference", int8),
        ("run", int8, images / "00.png", "--threads", 1, "--threads", 1),
        ("compress", "m", "--recipe", "a", "--recipe", "b", "--output", "x"),
        ("bench", int8, "--seconds", 1, "--seconds=2"),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 2, result.output
        assert "given twice" in result.output
    assert invoke("run", int8, images / "00.png", "--json", "--json").exit_code == 0


def test_what_is_known_of_a_harder_set(invoke: Invoke, int8: Path, fp32: Path, images: Path) -> None:
    arguments = ("evaluate", int8, "--data", images, "--against", fp32)
    plain = json.loads(invoke(*arguments, "--json").stdout)
    reference = plain["top1_rate"] - plain["difference"]
    row = json.loads(invoke(*arguments, "--reference-accuracy", reference, "--json").stdout)
    assert row["transfer"]["estimate"] == pytest.approx(plain["top1_rate"])
    assert row["transfer"]["worst_case_95"] < plain["top1_rate"]
    assert "worst case" in invoke(*arguments, "--reference-accuracy", reference).stdout


def test_corrupted_images(invoke: Invoke, int8: Path, fp32: Path, images: Path) -> None:
    arguments = ("evaluate", int8, "--data", images, "--corruptions", "fog,digital", "--severities", "1,5")
    row = json.loads(invoke(*arguments, "--limit", 4, "--against", fp32, "--json").stdout)
    robust = row["robustness"]
    assert list(robust["top1"]) == ["fog", "contrast", "elastic_transform", "pixelate", "jpeg_compression"]
    assert all(len(counts) == 2 for counts in robust["top1"].values())
    assert robust["images"] == row["images"] == 4
    assert robust["clean_top1"] == row["top1"]
    total = sum(map(sum, robust["top1"].values()))
    assert robust["mean_accuracy"] == pytest.approx(total / (4 * 5 * 2))
    assert robust["difference"] == pytest.approx(robust["mean_accuracy"] - robust["reference_mean_accuracy"])
    text = invoke(*arguments).stdout
    assert "severity 5" in text
    assert "elastic transform" in text


def test_shape_and_texture(invoke: Invoke, int8: Path, cues: Path) -> None:
    row = json.loads(invoke("evaluate", int8, "--cue-conflict", cues, "--json").stdout)
    cue = row["cue_conflict"]
    assert cue["images"] == 6
    assert "top1" not in row
    samples = [Sample(cues / f"{i}.png") for i in range(6)]
    (x,) = batches(samples, with_resize(subbyte.load(int8).preprocessing, "squash"))
    logits = subbyte.Session(int8).run(x).astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    said = np.stack([p[:, i : i + 4 : 2].mean(axis=1) if i < 2 else p[:, 4:].mean(axis=1) for i in range(3)])
    assert [cue["shape"], cue["texture"]] == [int((said.argmax(axis=0) == i).sum()) for i in (0, 1)]
    assert "shape bias" in invoke("evaluate", int8, "--cue-conflict", cues).stdout


def test_evaluate_says_what_it_needs(invoke: Invoke, fails: Fails, int8: Path, images: Path) -> None:
    assert invoke("evaluate", int8).exit_code == 2
    assert invoke("evaluate", int8, "--data", images, "--reference-accuracy", "0.7").exit_code == 2
    data = ("evaluate", int8, "--data", images)
    fails("unknown corruption 'rain'", *data, "--corruptions", "rain")
    fails("from 1 to 5", *data, "--corruptions", "fog", "--severities", "9")
    fails("needs a labels.csv", "evaluate", int8, "--cue-conflict", images / "none")


def test_report_with_everything(
    invoke: Invoke, int8: Path, fp32: Path, images: Path, cues: Path, tmp_path: Path
) -> None:
    page, text = tmp_path / "report.html", tmp_path / "report.md"
    measured = (
        "--corruptions",
        "fog,contrast",
        "--severities",
        "3",
        "--corrupted",
        5,
        "--cue-conflict",
        cues,
    )
    written = ("--output", page, "--markdown", text, "--json")
    result = invoke("report", fp32, int8, "--data", images, *measured, "--seconds", 0.05, *written)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert rows[0]["reference_speedup"] is None
    assert rows[1]["reference_speedup"] > 0
    assert rows[1]["latency_ms"] > 0
    assert rows[1]["memory_bytes"] == sum(
        getattr(subbyte.Session(int8), name) for name in ("weight_bytes", "arena_bytes")
    )
    assert rows[1]["robustness"]["images"] == 5
    assert rows[1]["shape_bias"]["images"] == 6
    alone = invoke("evaluate", int8, "--data", images, "--against", fp32, "--json")
    for key in ("lost", "gained", "difference_interval_95", "mcnemar_p", "calibration_error"):
        assert rows[1][key] == json.loads(alone.stdout)[key]
    assert text.read_text().count("\n|") == 4
    assert 'id="corruptions"' in page.read_text()


def test_report_refuses_two_sources_of_latency(
    fails: Fails, int8: Path, images: Path, tmp_path: Path
) -> None:
    rest = ("--data", images, "--output", tmp_path / "r.html")
    fails("not both", "report", int8, *rest, "--bench", tmp_path / "b.json", "--seconds", "1")
    fails("is not a folder", "report", int8, *rest, "--markdown", tmp_path / "no" / "r.md")


def test_report_draws_a_sensitivity_analysis(
    invoke: Invoke, fails: Fails, int8: Path, images: Path, tmp_path: Path
) -> None:
    from subbyte.analysis.degradation import Degradation
    from subbyte.analysis.table import Row, Sensitivity
    from subbyte.quant import weight_format

    def degradation(kl: float) -> Degradation:
        return Degradation(kl=kl, mse=0.0, agreement=1.0)

    row = Row(
        kind="weights",
        nodes=("stem",),
        format=weight_format(4),
        component="first",
        stage="0",
        elements=9,
        degradation=degradation(0.5),
        block_sqnr=12.5,
    )
    table = Sensitivity(key="k", model="m", images=3, base=degradation(0.125), rows=[row])
    table.save(tmp_path / "s.json")
    rest = ("--data", images, "--output", tmp_path / "r.html", "--sensitivity")
    result = invoke("report", int8, *rest, tmp_path / "s.json")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "r.html").read_text()
    assert 'id="sensitivity-weights"' in page
    assert "KL 0.38 nats" in page
    assert "block 12.5 dB" in page
    fails("cannot read a sensitivity analysis from", "report", int8, *rest, int8)
