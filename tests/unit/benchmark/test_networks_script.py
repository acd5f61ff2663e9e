"""bench/networks.py builds, measures and writes what it says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from subbyte.artifact import load
from subbyte.benchmark.result import BenchResult

pytest.importorskip("torch")
SCRIPT = Path(__file__).parents[3] / "bench" / "networks.py"


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("networks", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "networks", module)  # its dataclass looks its module up
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "NETWORKS", (module.Network("tf_efficientnet_lite0", 32),))
    return module


def test_one_small_network(networks: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    options = ["--only", "lite0", "--recipes", "w4a8,w2a8", "--peers", "", "--seconds", "0", *folders]
    assert networks.main([*options, "--streams", "1", "--batch", "2"]) == 0
    batches = BenchResult.from_json((tmp_path / "results/tf_efficientnet_lite0-32-t1-b2.json").read_text())
    assert (batches.batch, batches.streams, batches.timings[0].load_ms) == (2, 1, None)
    capsys.readouterr()
    assert networks.main(options) == 0
    made = sorted((tmp_path / "work").iterdir())
    assert [path.name.split("-")[2] for path in made] == ["fp32", "w2a8", "w4a8"]
    assert load(made[1]).preprocessing.height == 32
    text = (tmp_path / "results/tf_efficientnet_lite0-32-t1.json").read_text()
    result = BenchResult.from_json(text)
    assert [t.precision for t in result.timings] == ["w4a8", "w2a8"]
    assert result.float_network == "given"
    assert capsys.readouterr().out.count("equal") == 2
    times = [path.stat().st_mtime_ns for path in made]
    assert networks.main(options) == 0
    assert [path.stat().st_mtime_ns for path in made] == times, "built again"


def test_mistakes_are_one_line(
    networks: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    assert networks.main(["--only", "resnet"]) == 1
    assert networks.main(["--peers", "tvm", "--recipes", "fp32", "--seconds", "0", *folders]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 2
    assert "resnet fits none of tf_efficientnet_lite0-32" in lines[0]
    assert "unknown peer 'tvm'" in lines[1]
