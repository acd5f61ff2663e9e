"""Budgets from Python and from the command line: one road, the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import subbyte
from subbyte import Artifact, Budget, compress_model, import_model
from subbyte.analysis.degradation import Degradation, Meter
from subbyte.cli.app import app
from subbyte.compress import budgeted
from subbyte.compress.budgeted import Measured, Report
from subbyte.compress.quick_time import QuickTime
from subbyte.data.samples import batches, image_folder
from subbyte.device import artifact_bytes
from subbyte.errors import InputError
from subbyte.importers import Imported
from subbyte.ir import Graph
from subbyte.preprocess import Preprocessing
from subbyte.quant import QTensor
from subbyte.recipes import STEPS
from subbyte.steps.context import Context

SIZE, SIDE = 8000, 12
SOURCE = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 96, 1), nn.ReLU(),
        nn.Conv2d(96, 64, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 6))
"""
PREPROCESSING = Preprocessing(SIDE, SIDE, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty cache, and no choice that depends on how fast this machine is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("subbyte.allocate.costs.refusal", lambda *_: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(7)
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (14, 14, 3), np.uint8)).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "net.py"
    path.write_text(SOURCE)
    return f"{path}:build"


@pytest.fixture
def network(source: str) -> Imported:
    return import_model(source, preprocessing=PREPROCESSING)


def arrays(images: Path) -> list[np.ndarray]:
    return list(batches(image_folder(images), PREPROCESSING))


def weights(artifact: Artifact) -> dict[str, QTensor]:
    found = {node.name: node.params.get("weight") for node in artifact.graph.nodes}
    return {name: weight for name, weight in found.items() if isinstance(weight, QTensor)}


def test_a_size_together_with_training(source: str, images: Path, tmp_path: Path) -> None:
    path, work, recipe = tmp_path / "small.subbyte", tmp_path / "work", tmp_path / "small.toml"
    words = ["compress", source, "--input-size", str(SIDE), "--calibration", str(images)]
    budget = ["--recipe", "w4a8-reconstruct", "--size", str(SIZE), "--work", str(work)]
    options = ["--write-recipe", str(recipe), "--output", str(path)]
    result = CliRunner().invoke(app, [*words, *budget, *options])
    assert result.exit_code == 0, result.output
    assert path.stat().st_size <= SIZE
    artifact = subbyte.load(path)
    assert artifact.recipe["steps"] == ["bias_correction", "reconstruct"]
    assert list(work.rglob("block-*.pt")) != []
    said = artifact.provenance["held_back"]
    assert said["images"] == 4
    assert set(said) == {"images", "agreeing", "agreement_95", "kl"}
    x = np.concatenate(arrays(images))
    assert subbyte.Session(artifact).run(x).shape == (20, 6)
    # the same bit-widths without the training, which leaves no scale as it was
    untrained = subbyte.load_recipe(recipe).model_copy(update={"steps": ()})
    plain = weights(compress_model(source, untrained, [x], preprocessing=PREPROCESSING))
    trained = weights(artifact)
    assert {name: weight.bits for name, weight in plain.items()} == {
        name: weight.bits for name, weight in trained.items()
    }
    narrow = [name for name, weight in trained.items() if weight.bits < 8]
    assert narrow != []
    assert not any(np.array_equal(plain[name].scale, trained[name].scale) for name in narrow)


def test_python_makes_the_bytes_of_the_command(
    source: str, network: Imported, images: Path, tmp_path: Path
) -> None:
    by_command, by_call = tmp_path / "a.subbyte", tmp_path / "b.subbyte"
    words = ["compress", source, "--input-size", str(SIDE), "--calibration", str(images)]
    options = ["--recipe", "w4a8", "--size", str(SIZE), "--output", str(by_command), "--seed", "3"]
    target = "raspberry-pi-5"  # its times are the same on every machine
    result = CliRunner().invoke(app, [*words, *options, "--target", target])
    assert result.exit_code == 0, result.output
    reports: list[Report] = []
    artifact = compress_model(
        network,
        "w4a8",
        arrays(images),
        provenance={"calibration": "16 images of images"},
        seed=3,
        budget=Budget(size=SIZE),
        target=target,
        report=reports.append,
    )
    subbyte.save(by_call, artifact)
    assert by_call.read_bytes() == by_command.read_bytes()
    (report,) = reports
    assert report.artifact is artifact
    assert report.recipe.model_dump(mode="json") == artifact.recipe
    assert report.measured.record() == artifact.provenance["held_back"]
    assert set(report.components.values()) >= {"stem", "classifier"}
    for text in (f"chosen among {report.chosen.evaluations} networks", f"on {report.measured.images} images"):
        assert text in result.stdout


def test_the_smallest_file_for_a_drop(
    network: Imported, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(meter: Meter, graph: Graph) -> Degradation:
        """Whatever has fewer than 8 bits loses half of the images."""
        narrow = any(isinstance(w, QTensor) and w.bits < 8 for n in graph.nodes for w in n.params.values())
        return Degradation(kl=float(narrow), mse=0.0, agreement=1.0 - narrow / 2)

    monkeypatch.setattr(Meter, "of", of)
    bits = [
        {weight.bits for weight in weights(artifact).values()}
        for drop in (100.0, 10.0)
        for artifact in [compress_model(network, "w8a8", arrays(images), budget=Budget(drop=drop))]
    ]
    assert min(bits[0]) == 2
    assert bits[1] == {8}


def test_labels_are_those_of_the_images_that_are_not_held_back(
    network: Imported, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray | None] = []

    def run(context: Context) -> Graph:
        seen.append(context.labels)
        return context.graph

    monkeypatch.setitem(
        STEPS, "bias_correction", replace(STEPS["bias_correction"], needs=("images", "labels"))
    )
    monkeypatch.setattr("subbyte.steps.bias_correction.run", run)
    x = arrays(images)
    budget = Budget(size=SIZE)
    with pytest.raises(InputError, match="'bias_correction' needs labels"):
        compress_model(network, "w4a8", x, budget=budget)
    with pytest.raises(InputError, match="there are 7 labels of 20 calibration images"):
        compress_model(network, "w4a8", x, labels=np.arange(7), budget=budget)
    compress_model(network, "w4a8", x, labels=np.arange(20), budget=budget)
    assert [None if labels is None else labels.tolist() for labels in seen] == [
        [i for i in range(20) if i % 5 != 4]
    ]


def test_what_a_finished_network_can_fail(
    network: Imported, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(message: str, budget: Budget) -> None:
        with pytest.raises(InputError, match=message):
            compress_model(network, "w4a8", arrays(images), budget=budget)

    with pytest.raises(InputError, match="no calibration images"):
        compress_model(network, "w4a8", budget=Budget(size=SIZE))
    with pytest.raises(InputError, match="there is no device 'phone'"):
        compress_model(network, "w4a8", arrays(images), budget=Budget(size=SIZE), target="phone")
    monkeypatch.setattr(budgeted, "artifact_bytes", lambda artifact: artifact_bytes(artifact) + SIZE)
    fails(r"the file would have \d+ bytes instead of 8000; allow", Budget(size=SIZE))
    monkeypatch.undo()
    # fast before the training, slow after it
    times = iter([QuickTime(1.0, 1.0, 7, busy=False), QuickTime(2e4, 2e4, 7, busy=False)])
    monkeypatch.setattr(budgeted, "quick_time", lambda session: next(times))
    fails("an image takes 2e", Budget(latency=1e4))
    assert next(times, None) is None


def test_the_report_is_plain_data() -> None:
    measured = Measured(Degradation(kl=0.12345, mse=0.0, agreement=0.75), 8, held_back=True)
    assert measured.record() == {"images": 8, "agreeing": 6, "agreement_95": [0.4093, 0.9285], "kl": 0.1235}
    assert json.loads(json.dumps(measured.record())) == measured.record()
    assert replace(measured, held_back=False).record() == {"images": 0}
