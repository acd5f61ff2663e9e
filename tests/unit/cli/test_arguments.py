"""What is wrong with an argument is said before any work is done, by every command that has it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from subbyte.benchmark.candidate import LEAST_CORRELATION
from subbyte.cli import checks
from subbyte.errors import InputError
from tests.unit.bench.test_page import result as bench_result

Invoke = Callable[..., Any]
Refused = Callable[..., None]


@pytest.fixture
def refused(fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Refused:
    """Like `fails`; nothing may be loaded, run or timed before."""

    def work(*_: Any, **__: Any) -> None:
        pytest.fail("the work had begun")

    for place in (
        "subbyte.cli.compress.load_model",
        "subbyte.cli.ablate.load_model",
        "subbyte.cli.sensitivity.load_model",
        "subbyte.cli.entries.predict",
        "subbyte.cli.measure.predict",
        "subbyte.benchmark.bench.interleave",
    ):
        monkeypatch.setattr(place, work)
    return fails


@pytest.fixture
def compress(source: Path, images: Path) -> tuple[object, ...]:
    return ("compress", f"{source}:build", "--input-size", 16, "--recipe", "w8a8", "--calibration", images)


def test_outputs_of_compress(
    refused: Refused, compress: tuple[object, ...], source: Path, tmp_path: Path
) -> None:
    good = ("--output", tmp_path / "a.subbyte")
    (tmp_path / "folder.subbyte").mkdir()
    os.mkfifo(tmp_path / "pipe.subbyte")
    refused("--output . is a folder; give a file", *compress, "--output", ".")
    refused("folder.subbyte is a folder", *compress, "--output", tmp_path / "folder.subbyte")
    refused("pipe.subbyte is not a regular file", *compress, "--output", tmp_path / "pipe.subbyte")
    refused("must end in .subbyte", *compress, "--output", tmp_path / "a.onnx")
    refused("is not a folder", *compress, "--output", tmp_path / "no" / "a.subbyte")
    refused("cannot write to the folder /proc", *compress, "--output", "/proc/a.subbyte")
    refused("File name too long", *compress, "--output", tmp_path / f"{'n' * 300}.subbyte")
    weights = tmp_path / "weights.subbyte"
    weights.write_bytes(b"")
    refused("would overwrite another file", *compress, "--weights", weights, "--output", weights)
    budget = (*compress, *good, "--drop", 1, "--write-recipe")
    refused("--write-recipe", *budget, tmp_path / "no" / "r.toml")
    refused("must end in .toml", *budget, tmp_path / "r.json")
    refused("is a folder", *budget, tmp_path)
    recipe = tmp_path / "mine.toml"
    recipe.write_text('name = "mine"\n')
    other = [recipe if word == "w8a8" else word for word in budget]
    refused("would overwrite another file", *other, recipe)
    refused("--work", *compress, *good, "--work", source)
    refused("cannot write to the folder /proc", *compress, *good, "--work", "/proc/work")


def test_other_arguments_of_compress(refused: Refused, compress: tuple[object, ...], tmp_path: Path) -> None:
    rest = (*compress, "--output", tmp_path / "a.subbyte")
    os.mkfifo(tmp_path / "pipe")
    refused("cannot read class names", *rest, "--classes", tmp_path)
    refused("cannot read class names", *rest, "--classes", tmp_path / "pipe")
    refused("--write-recipe needs a budget", *rest, "--write-recipe", tmp_path / "r.toml")
    refused("--sensitivity needs a budget", *rest, "--sensitivity", tmp_path / "s.json")
    refused("cannot read a sensitivity analysis", *rest, "--drop", 1, "--sensitivity", tmp_path / "s.json")
    (tmp_path / "s.json").write_text("[" * 100_000)
    refused("is not the result of", *rest, "--drop", 1, "--sensitivity", tmp_path / "s.json")
    refused("activations can have", *rest, "--activation-bits", "7")
    other = [f"{tmp_path}/" if word == "w8a8" else word for word in rest]
    refused("cannot read the recipe", *other)


def test_class_names_that_do_not_fit_are_refused_before_calibration(
    fails: Callable[..., None],
    compress: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("subbyte.compress.job.compress", lambda *_, **__: pytest.fail("it was compressed"))
    names = tmp_path / "names.txt"
    rest = (*compress, "--output", tmp_path / "a.subbyte", "--classes", names)
    names.write_text("ant\nbee\n")
    fails("there are 2 class names, but the network has 6 outputs", *rest)
    names.write_text("ant\nbee\ncat\ndog\nelk\n\x1b[31m\n")
    fails("printable characters", *rest)


def test_report(refused: Refused, int8: Path, images: Path, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    data = ("--data", images)
    refused("is a folder", "report", int8, *data, "--output", tmp_path)
    refused("must end in .html", "report", int8, *data, "--output", tmp_path / "r.json")
    refused("must end in .md", "report", int8, *data, "--output", page, "--markdown", tmp_path / "r.html")
    rest = ("report", int8, *data, "--output", page)
    refused("unknown corruption 'rain'", *rest, "--corruptions", "rain")
    refused("from 1 to 5", *rest, "--corruptions", "fog", "--severities", "9")
    refused("from 1 to 5", *rest, "--severities", "0")
    refused("needs a labels.csv", *rest, "--cue-conflict", tmp_path)
    refused("unknown peer 'tflite'", *rest, "--against", "tflite", "--calibration", images)
    refused("needs --calibration", *rest, "--against", "onnxruntime")
    refused("is not a folder", *rest, "--against", "onnxruntime", "--calibration", tmp_path / "no")
    refused("the resize mode", *rest, "--resize", "pad")
    refused("is not a folder", "report", int8, "--data", tmp_path / "no", "--output", page)
    refused("cannot read the benchmark result", *rest, "--bench", tmp_path)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    refused("this is no benchmark result", *rest, "--bench", tmp_path / "deep.json")
    assert not page.exists()


def test_report_needs_the_timing_of_its_artifacts(
    refused: Refused, int8: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "bench.json").write_text(bench_result(load=0.0).to_json())
    rest = ("--data", images, "--output", tmp_path / "r.html", "--bench", tmp_path / "bench.json")
    refused("has no timing of", "report", int8, *rest)


def test_ablate(refused: Refused, source: Path, images: Path, tmp_path: Path) -> None:
    own = ("ablate", f"{source}:build", "--input-size", 16, "--recipe", "w8a8", "--calibration", images)
    out, data = ("--output", tmp_path / "out"), ("--data", images)
    refused("is not a folder", *own, *data, "--output", source)
    refused("cannot write to the folder /proc", *own, *data, "--output", "/proc/out")
    refused("unknown corruption", *own, *data, *out, "--corruptions", "rain")
    refused("needs a labels.csv", *own, *data, *out, "--cue-conflict", tmp_path)
    refused("is not a folder", *own, *out, "--data", tmp_path / "no")
    assert not (tmp_path / "out").exists()


def test_sensitivity(refused: Refused, source: Path, images: Path, tmp_path: Path) -> None:
    own = ("sensitivity", f"{source}:build", "--input-size", 16, "--calibration", images)
    refused("must end in .json", *own, "--output", tmp_path / "s.html")  # where its page goes
    refused("is a folder", *own, "--output", tmp_path)
    refused("must end in .html", *own, "--output", tmp_path / "s.json", "--html", tmp_path / "s.json")
    refused("is not a folder", *own, "--output", tmp_path / "s.json", "--html", tmp_path / "no" / "s.html")


def test_evaluate(refused: Refused, int8: Path, images: Path, tmp_path: Path) -> None:
    rest = ("evaluate", int8, "--data", images)
    refused("unknown corruption", *rest, "--corruptions", "rain")
    refused("needs a labels.csv", *rest, "--cue-conflict", tmp_path)
    for name, text in (("labels.csv", "file,shape,texture\n"), ("c.json", "[" * 100_000)):
        (tmp_path / name).write_text(text)
    refused("nested too deeply", *rest, "--cue-conflict", tmp_path)


def test_tables_of_labels(fails: Callable[..., None], int8: Path, images: Path, tmp_path: Path) -> None:
    def table(message: str, text: bytes) -> None:
        (tmp_path / "labels.csv").write_bytes(text)
        fails(message, "evaluate", int8, "--data", tmp_path)

    table("field larger than field limit", b"file,label\n" + b"x" * 200_000 + b",1\n")
    table("it is not UTF-8 text", b"file,label\n\xff,1\n")
    table("the label must be a class index", b"file,label\na.png," + b"9" * 1000 + b"\n")
    table("there is no file", b"file,label\na\0.png,1\n")
    table("needs the columns file and label", b"a\nb\n")


def test_a_corrupt_image_among_labelled_ones(
    fails: Callable[..., None], int8: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes((images / "00.png").read_bytes())
    (tmp_path / "b.png").write_bytes((images / "00.png").read_bytes()[:70])
    (tmp_path / "labels.csv").write_text("file,label\na.png,0\nb.png,1\n")
    fails("b.png as an image", "evaluate", int8, "--data", tmp_path)
    fails("b.png as an image", "evaluate", int8, "--data", tmp_path, "--json")


def test_a_folder_is_probed_without_a_trace(tmp_path: Path) -> None:
    checks.check_output("--output", tmp_path / "a.json", ".json")
    checks.check_output("--output", tmp_path / "a.JSON", ".json")
    checks.check_output_folder("--work", tmp_path / "b" / "c")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.json").write_text("")
    (tmp_path / "link.json").symlink_to("a.json")
    with pytest.raises(InputError, match="would overwrite"):
        checks.check_output("--output", tmp_path / "link.json", ".json", [None, tmp_path / "a.json"])


# --------------------------------------------------------------------------- run


def test_run_goes_on_behind_a_bad_image(invoke: Invoke, int8: Path, images: Path, tmp_path: Path) -> None:
    good, bad, missing = images / "00.png", tmp_path / "bad.png", tmp_path / "missing.png"
    bad.write_bytes(b"no image")
    np.save(tmp_path / "small.npy", np.zeros((2, 2, 3), np.float32))
    empty = tmp_path / "empty"
    empty.mkdir()
    files = (bad, good, missing, tmp_path / "small.npy", empty, images / "01.png")
    result = invoke("run", int8, *files)
    assert result.exit_code == 1
    errors = result.stderr.splitlines()
    assert len(errors) == 4
    for line, file in zip(errors, ("bad.png", "missing.png", "[N, 16, 16, 3]", "empty"), strict=True):
        assert line.startswith("error: ")
        assert file in line
    shown = [line for line in result.stdout.splitlines() if line.endswith(".png")]
    assert shown == [str(good), str(images / "01.png")]
    result = invoke("run", int8, *files, "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    rows = json.loads(result.stdout)
    assert [row["file"] for row in rows] == list(map(str, files))
    assert [set(row) - {"file"} for row in rows] == [
        {"top"} if file.parent == images else {"error"} for file in files
    ]


def test_run_takes_folders(invoke: Invoke, int8: Path, images: Path) -> None:
    result = invoke("run", int8, images, "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    files = sorted(map(str, images.glob("*.png")))
    assert [row["file"] for row in rows] == files
    assert rows == json.loads(invoke("run", int8, *files, "--json").stdout)


def test_json_commands_print_nothing_else(
    invoke: Invoke, int8: Path, two_outputs: Path, images: Path, tmp_path: Path
) -> None:
    """Errors are one line on stderr with status 1, results one document on stdout."""
    for command in (
        ("run", int8, images / "00.png"),
        ("inspect", int8),
        ("inspect", two_outputs),
        ("evaluate", int8, "--data", images),
        ("bench", int8, "--seconds", 0.05),
        ("report", int8, "--data", images, "--output", tmp_path / "r.html"),
        ("recipes",),
        ("models",),
    ):
        result = invoke(*command, "--json")
        assert (result.exit_code, result.stderr) == (0, ""), command
        json.loads(result.stdout)
    for name, words in (
        ("run", ("x.png",)),
        ("inspect", ()),
        ("evaluate", ("--data", images)),
        ("bench", ()),
        ("report", ("--data", images, "--output", tmp_path / "r.html")),
    ):
        result = invoke(name, tmp_path / "missing.subbyte", *words, "--json")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1


def test_bench_says_which_peer_was_skipped(
    invoke: Invoke, int8: Path, fp32: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setitem(LEAST_CORRELATION, "fp32", 2.0)
    arguments = ("bench", fp32, "--against", "onnxruntime-fp32", "--seconds", 0.05)
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    assert "onnxruntime-fp32 was skipped: it computes something else than its network" in result.stdout
    found = json.loads(invoke(*arguments, "--json").stdout)
    assert len(found["timings"]) == 1
    assert found["skipped"][0]["name"] == "onnxruntime"
