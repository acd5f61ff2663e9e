"""`subbyte bench` and `report`, without and with a peer; the lists; what imports torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import subbyte

Invoke = Callable[..., Any]
Fails = Callable[..., None]
QUICK = ("--seconds", "0.05")


@pytest.fixture
def bench_file(invoke: Invoke, int8: Path, fp32: Path, images: Path, tmp_path: Path) -> Path:
    result = invoke("bench", fp32, int8, "--calibration", images, *QUICK, "--json")
    assert result.exit_code == 0, result.output
    path = tmp_path / "bench.json"
    path.write_text(result.stdout)
    return path


def test_bench_times_every_artifact(invoke: Invoke, bench_file: Path, int8: Path, fp32: Path) -> None:
    timings = json.loads(bench_file.read_text())["timings"]
    assert [timing["precision"] for timing in timings] == ["fp32", "w8a8"]
    assert all(timing["ms"]["median"] > 0 for timing in timings)
    text = invoke("bench", fp32, int8, *QUICK)
    assert text.exit_code == 0, text.output
    assert "GMAC an image" in text.stdout
    assert "w8a8" in text.stdout


def test_bench_measures_memory_and_throughput(invoke: Invoke, int8: Path) -> None:
    text = invoke("bench", int8, *QUICK, "--memory", "--streams", 1)
    assert text.exit_code == 0, text.output
    for heading in ("load ms", "memory", "images/s"):
        assert heading in text.stdout
    assert "of 1 callers at a time" in text.stdout


def test_bench_refuses(fails: Fails, int8: Path, tmp_path: Path) -> None:
    fails("unknown peer 'tflite'", "bench", int8, "--against", "tflite", *QUICK)
    fails("missing.subbyte", "bench", tmp_path / "missing.subbyte", *QUICK)
    fails("holds no images", "bench", int8, "--calibration", tmp_path, *QUICK)


def test_report_joins_accuracy_and_latency(
    invoke: Invoke, bench_file: Path, int8: Path, fp32: Path, images: Path, tmp_path: Path
) -> None:
    output = tmp_path / "report.html"
    result = invoke(
        *("report", fp32, int8, "--data", images, "--bench", bench_file, "--json", "--output", output)
    )
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [row["name"] for row in rows] == ["tiny-fp32", "tiny-w8a8"]
    timed = [timing["ms"]["median"] for timing in json.loads(bench_file.read_text())["timings"]]
    assert [row["latency_ms"] for row in rows] == timed
    counted = json.loads(invoke("evaluate", int8, "--data", images, "--reference", fp32, "--json").stdout)
    for key in ("images", "top1", "top5", "agreement"):
        assert rows[1][key] == counted[key]
    assert {row["fastest_float"] for row in rows} == {"tiny-fp32"}
    assert rows[0]["float_speedup"] == 1.0
    html = output.read_text()
    assert f"{rows[1]['latency_ms']:.2f} ms" in html
    assert "the fastest float32 runtime timed" in html
    assert "SQNR, dB" in html
    assert "network.py:build" in html
    assert html.count("data:image/jpeg") == 12


def test_speedups_are_over_the_fastest_float32_of_all(
    invoke: Invoke, bench_file: Path, int8: Path, fp32: Path, images: Path, tmp_path: Path
) -> None:
    """A peer whose every round took half as long as our float32's."""
    measured = json.loads(bench_file.read_text())
    own = next(timing for timing in measured["timings"] if timing["precision"] == "fp32")
    halves = {
        "ms": {key: value / 2 for key, value in own["ms"].items()},
        "round_ms": [value / 2 for value in own["round_ms"]],
    }
    measured["timings"].append(own | halves | {"name": "quick", "peer": True, "sha256": None, "isa": None})
    (tmp_path / "peer.json").write_text(json.dumps(measured))
    output, table = tmp_path / "report.html", tmp_path / "report.md"
    rest = ("--data", images, "--output", output, "--markdown", table, "--layer-errors", 0)
    result = invoke("report", fp32, int8, *rest, "--bench", tmp_path / "peer.json", "--json")
    assert result.exit_code == 0, result.output
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert rows["tiny-fp32"]["float_speedup"] == 0.5
    assert rows["quick-fp32"]["float_speedup"] == 1.0
    assert rows["tiny-fp32"]["fastest_float"] == "quick-fp32"
    assert "speedup vs quick-fp32" in output.read_text()
    assert "speedup vs quick-fp32" in table.read_text()
    assert "SQNR, dB" not in output.read_text()


def test_report_shows_corrupted_images(
    invoke: Invoke, int8: Path, fp32: Path, images: Path, tmp_path: Path
) -> None:
    output = tmp_path / "report.html"
    options = ("--corruptions", "fog,contrast", "--severities", "3", "--corrupted", 4)
    result = invoke("report", fp32, int8, "--data", images, "--output", output, *options)
    assert result.exit_code == 0, result.output
    html = output.read_text()
    assert html.count("data:image/jpeg") == 12 + 2 * 3
    assert html.count("<figcaption>contrast<br>") == 2


def test_report_evaluates_peers(invoke: Invoke, int8: Path, fp32: Path, images: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    output = tmp_path / "report.html"
    peers = ("--against", "onnxruntime-fp32", "--calibration", images)
    result = invoke("report", fp32, "--data", images, *peers, "--output", output, "--json")
    assert result.exit_code == 0, result.output
    own, peer = json.loads(result.stdout)
    assert (peer["name"], peer["peer"]) == ("onnxruntime-fp32", True)
    assert (peer["top1"], peer["agreement"]) == (own["top1"], 12)


def test_report_refuses(
    fails: Fails, bench_file: Path, int8: Path, two_outputs: Path, images: Path, tmp_path: Path
) -> None:
    rest = ("--data", images, "--output", tmp_path / "report.html")
    fails("given twice", "report", int8, int8, *rest)
    fails("no classifier", "report", two_outputs, *rest)
    fails("needs --calibration", "report", int8, *rest, "--against", "onnxruntime")
    fails("is not a folder", "report", int8, "--data", images, "--output", tmp_path / "no" / "r.html")
    fails("cannot read the benchmark result", "report", int8, *rest, "--bench", tmp_path / "no.json")
    (tmp_path / "bad.json").write_text("{}")
    fails("this is no benchmark result", "report", int8, *rest, "--bench", tmp_path / "bad.json")
    other = tmp_path / "other.subbyte"
    subbyte.save(other, subbyte.Artifact(*_changed(int8)))
    fails("has no timing of", "report", other, *rest, "--bench", bench_file)
    assert not (tmp_path / "report.html").exists()


def _changed(path: Path) -> tuple[Any, ...]:
    artifact = subbyte.load(path)
    provenance = {**artifact.provenance, "model": "another"}
    return artifact.graph, artifact.recipe, artifact.preprocessing, artifact.classes, provenance


def test_lists(invoke: Invoke) -> None:
    recipes = json.loads(invoke("recipes", "--json").stdout)
    assert {"fp32", "w8a8", "w4a8"} <= {recipe["name"] for recipe in recipes}
    assert recipes[0]["description"] in invoke("recipes").stdout
    models = json.loads(invoke("models", "--json").stdout)
    assert {"name", "preprocessing"} == set(models[0])
    assert "tf_efficientnet_lite0" in invoke("models").stdout
    assert invoke("--version").stdout == f"subbyte {subbyte.__version__}\n"


def test_usage_errors_are_status_2(invoke: Invoke, int8: Path) -> None:
    assert invoke("evaluate", int8).exit_code == 2
    assert invoke("run", int8, "x.png", "--threads", "0").exit_code == 2


def test_running_an_artifact_needs_no_torch(int8: Path, fp32: Path, images: Path) -> None:
    """import, load, run, evaluate, inspect with a torch that cannot be imported."""
    root = str(Path(subbyte.__file__).parents[1])
    program = (
        "import sys; sys.modules['torch'] = None\n"
        f"sys.path.insert(0, {root!r})\n"
        "import subbyte; subbyte.Session; subbyte.load; subbyte.Recipe\n"
        "from typer.testing import CliRunner\n"
        "from subbyte.cli.app import app\n"
        "for arguments in sys.argv[1:]:\n"
        "    result = CliRunner().invoke(app, arguments.split('|'))\n"
        "    print(result.exit_code, result.stderr.strip())\n"
    )
    commands = [
        f"run|{int8}|{images / '00.png'}",
        f"evaluate|{int8}|--data|{images}|--reference|{fp32}",
        f"inspect|{int8}",
        "recipes",
        f"compress|efficientnet_b0|--weights|random|--recipe|fp32|--output|{int8.parent / 'no.subbyte'}",
    ]
    result = subprocess.run([sys.executable, "-c", program, *commands], capture_output=True, text=True)
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        *["0 "] * 4,
        "1 error: this needs torch: pip install 'subbyte[torch]'",
    ]


def test_public_names() -> None:
    assert subbyte.__all__ == sorted(subbyte.__all__)
    assert set(subbyte.__all__) <= set(dir(subbyte))
    for name in subbyte.__all__:
        assert getattr(subbyte, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        subbyte.nothing  # type: ignore[attr-defined]  # noqa: B018
