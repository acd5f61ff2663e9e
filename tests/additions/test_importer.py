"""A source of networks that the package does not have: what adding one takes.

A real one is a row in subbyte/importers/table.py and its function in a new file of subbyte/importers. Here
the row stands in this file; nothing else is touched.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import subbyte
from subbyte import Preprocessing
from subbyte.cli.app import app
from subbyte.data import load_image
from subbyte.errors import InputError
from subbyte.importers import IMPORTERS, Imported, Importer
from subbyte.importers.table import has_suffix
from tests.unit.compress.networks import FloatNetwork

CLASSES = ("ant", "bee", "cat")


def from_toy(source: str, weights: str | None, preprocessing: Preprocessing | None) -> Imported:
    """A .toy file names the layers of a chain of convolutions, by their outputs, and a seed."""
    said = json.loads(Path(source).read_text())
    network = FloatNetwork((8, 8, 3), said["seed"])
    value = "image"
    for number, outputs in enumerate(said["layers"]):
        value = network.conv(f"conv{number}", value, outputs, 3, "relu")
    graph = network.graph(network.linear("head", network.flatten(network.pool(value)), len(CLASSES)))
    return Imported(graph, Preprocessing(8, 8, (0.5,) * 3, (0.5,) * 3), {"model": "a toy"}, CLASSES)


@pytest.fixture(autouse=True)
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(IMPORTERS, "toy", Importer(has_suffix(".toy"), f"{__name__}:from_toy"))


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    path = tmp_path / "x.toy"
    path.write_text('{"layers": [6, 8], "seed": 4}')
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def test_compress_reads_it_and_so_does_python(toy: Path, images: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.subbyte"
    run("compress", toy, "--recipe", "w4a8", "--calibration", images, "--output", path)
    by_command = subbyte.load(path)
    assert by_command.classes == CLASSES
    assert by_command.provenance["model"] == "a toy"
    assert by_command.recipe["name"] == "w4a8"
    x = np.stack([load_image(images / f"{i}.png", by_command.preprocessing) for i in range(4)])
    artifact = subbyte.compress_model(toy, "w4a8", [x], provenance={"calibration": "4 images of images"})
    subbyte.save(tmp_path / "b.subbyte", artifact)
    assert path.read_bytes() == (tmp_path / "b.subbyte").read_bytes()


def printed(*arguments: object) -> Any:
    """The JSON of a command, behind the line that the builder of the network prints."""
    return json.loads(run(*arguments, "--json").stdout.partition("\n")[2])


def test_other_commands_read_it(toy: Path, images: Path, tmp_path: Path) -> None:
    layers = {"conv2d": 2, "global_avg_pool": 1, "flatten": 1, "linear": 1}
    assert printed("check", toy)["layers"] == layers
    rows = printed("sensitivity", toy, "--calibration", images, "--output", tmp_path / "s.json")["rows"]
    assert {row["nodes"][0] for row in rows if row["kind"] == "weights"} == {"conv0", "conv1", "head"}


def test_it_says_itself_what_its_input_and_weights_are(toy: Path) -> None:
    with pytest.raises(InputError, match=r"x.toy says itself what its input is; leave the preprocessing out"):
        subbyte.import_model(toy, preprocessing=Preprocessing(8, 8, (0.0,) * 3, (1.0,) * 3))
    with pytest.raises(InputError, match=r"x.toy has weights of its own; leave the others out"):
        subbyte.import_model(toy, weights="w.pth")
    result = CliRunner().invoke(app, ["check", str(toy), "--input-size", "8"])
    assert "are for a module of your own" in result.stderr
