"""The input of a user's own module: channels, crop, interpolation, units, names; command line to engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import subbyte
from subbyte.data import load_image
from subbyte.data.decode import read_image
from subbyte.execute import reference
from subbyte.preprocess import Preprocessing

Invoke = Callable[..., Any]
Fails = Callable[..., None]

SOURCE = """
import torch
from torch import nn

def network(channels):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 6))

def grey():
    return network(1)

def rgba():
    return network(4)
"""
NETWORKS = [("grey", 1), ("rgba", 4)]


def network(channels: int) -> nn.Module:
    namespace: dict[str, Any] = {}
    exec(SOURCE, namespace)
    module = namespace["network"](channels)
    assert isinstance(module, nn.Module)
    return module.eval()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Six labelled images: grey, of 16 bits, RGB, RGBA, twice."""
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(5)
    shapes = [(20, 30), (20, 30, 3), (20, 30, 4)]
    for i in range(6):
        values = rng.integers(0, 256, shapes[i % 3], np.uint8)
        wide = i == 3
        Image.fromarray(values.astype(np.uint16) * 257 if wide else values).save(folder / f"{i}.png")
    rows = [f"{i}.png,{i}" for i in range(6)]
    (folder / "labels.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    return folder


@pytest.mark.parametrize(("name", "channels"), NETWORKS)
@pytest.mark.parametrize("recipe", ["fp32", "w8a8", "w4a8"])
def test_grey_and_rgba_networks_work_everywhere(
    invoke: Invoke, own: Path, mixed: Path, tmp_path: Path, name: str, channels: int, recipe: str
) -> None:
    file = tmp_path / "a.subbyte"
    calls: list[tuple[object, ...]] = [
        (
            *("compress", f"{own}:{name}", "--channels", channels, "--input-size", "12x18"),
            *("--recipe", recipe, "--calibration", mixed, "--output", file),
        ),
        ("run", file, mixed / "1.png", "--json"),
        ("evaluate", file, "--data", mixed, "--json"),
        ("bench", file, "--calibration", mixed, "--seconds", 0.01, "--json"),
        ("report", file, "--data", mixed, "--output", tmp_path / "a.html"),
        ("inspect", file, "--json"),
    ]
    results = {call[0]: invoke(*call) for call in calls}
    assert {key: result.output for key, result in results.items() if result.exit_code} == {}
    artifact = subbyte.load(file)
    assert artifact.preprocessing.mean == (0.0,) * channels
    assert artifact.preprocessing.std == (1.0,) * channels
    assert artifact.graph.value(artifact.graph.input).shape == (12, 18, channels)
    for image in sorted(mixed.glob("*.png")):
        x = load_image(image, artifact.preprocessing)[None]
        (expected,) = reference.run(artifact.graph, x).values()
        actual = subbyte.Session(artifact).run(x)
        if recipe == "fp32":
            with torch.no_grad():
                exact = network(channels)(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
            np.testing.assert_allclose(actual, exact, atol=1e-5 * np.abs(exact).max())
        else:
            np.testing.assert_array_equal(actual, expected)
    (timing,) = json.loads(results["bench"].stdout)["timings"]
    assert recipe == "fp32" or timing["check"]["equal"]


@pytest.mark.parametrize(("name", "channels"), NETWORKS)
def test_peers_get_the_same_input(
    invoke: Invoke, own: Path, mixed: Path, tmp_path: Path, name: str, channels: int
) -> None:
    pytest.importorskip("onnxruntime")
    file = tmp_path / "a.subbyte"
    shape = ("--channels", channels, "--input-size", 12)
    result = invoke("compress", f"{own}:{name}", *shape, "--recipe", "fp32", "--output", file)
    assert result.exit_code == 0, result.output
    options = ("--against", "onnxruntime-fp32", "--calibration", mixed)
    result = invoke("report", file, "--data", mixed, *options, "--output", tmp_path / "a.html", "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [row["name"] for row in rows] == ["a", "onnxruntime-fp32"]
    assert rows[1]["agreement"] == 6


def test_sensitivity_of_a_grey_network(invoke: Invoke, own: Path, mixed: Path, tmp_path: Path) -> None:
    options = ("--channels", 1, "--input-size", 12, "--weight-bits", "4", "--activation-bits", "")
    result = invoke(
        *("sensitivity", f"{own}:grey", *options, "--calibration", mixed, "--output", tmp_path / "s.json")
    )
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(("name", "channels"), NETWORKS)
def test_compress_model_takes_the_channels_of_the_preprocessing(channels: int, name: str) -> None:
    preprocessing = Preprocessing(12, 9, (0.5,) * channels, (0.25,) * channels)
    x = np.random.default_rng(0).standard_normal((4, 12, 9, channels)).astype(np.float32)
    artifact = subbyte.compress_model(network(channels), "w4a8", [x], preprocessing=preprocessing)
    (expected,) = reference.run(artifact.graph, x).values()
    np.testing.assert_array_equal(subbyte.Session(artifact).run(x), expected)


def test_channels_that_the_network_does_not_take(fails: Fails, own: Path, tmp_path: Path) -> None:
    rest = ("--input-size", "12", "--recipe", "fp32", "--output", tmp_path / "a.subbyte")
    fails("on a float32 input [1, 3, 12, 12]", "compress", f"{own}:grey", *rest)
    fails(
        "--channels must be 1 (grey), 3 (RGB) or 4 (RGBA), got 2",
        "compress",
        f"{own}:grey",
        *rest,
        "--channels",
        2,
    )
    fails(
        "--mean must be one number (grey) like 0.5, got '0.5,0.5,0.5'",
        *("compress", f"{own}:grey", *rest, "--channels", 1, "--mean", "0.5,0.5,0.5"),
    )


def preprocessing_of(invoke: Invoke, source: Path, tmp_path: Path, *options: object) -> Preprocessing:
    file = tmp_path / "a.subbyte"
    given = ("--input-size", "16x12", *options)
    result = invoke("compress", f"{source}:build", *given, "--recipe", "fp32", "--output", file)
    assert result.exit_code == 0, result.output
    return subbyte.load(file).preprocessing


def test_every_field_can_be_given(invoke: Invoke, source: Path, images: Path, tmp_path: Path) -> None:
    plain = preprocessing_of(invoke, source, tmp_path)
    assert (plain.interpolation, plain.crop_fraction, plain.crop_mode) == ("bicubic", 0.875, "center")
    options = ("--interpolation", "bilinear", "--crop-fraction", "0.5", "--crop-mode", "squash")
    given = preprocessing_of(invoke, source, tmp_path, *options)
    assert (given.interpolation, given.crop_fraction, given.crop_mode) == ("bilinear", 0.5, "squash")
    squashed = preprocessing_of(invoke, source, tmp_path, "--crop-mode", "squash")
    assert squashed.crop_fraction == 1.0
    run = ("run", tmp_path / "a.subbyte", images / "00.png", "--json")
    kept, cropped = invoke(*run), invoke(*run, "--resize", "crop")
    assert kept.stdout == invoke(*run, "--resize", "squash").stdout
    assert kept.stdout != cropped.stdout


def test_pixels_from_0_to_255(invoke: Invoke, source: Path, images: Path, tmp_path: Path) -> None:
    """(pixel - mean) / std, stored in units of pixel / 255. Four roundings to float32 (the pixel, its mean
    and their difference, the quotient) of at most 2^-24 each, of terms up to 255."""
    raw = preprocessing_of(invoke, source, tmp_path, "--no-rescale")
    given = preprocessing_of(
        invoke, source, tmp_path, "--no-rescale", "--mean", "127,0,5", "--std", "128,1,2"
    )
    same = Preprocessing(20, 24, raw.mean, raw.std, crop_fraction=1.0)  # the images as they are
    pixels = np.asarray(read_image(images / "00.png"), np.float64)
    np.testing.assert_allclose(load_image(images / "00.png", same), pixels, atol=255 * 2**-22)
    same = Preprocessing(20, 24, given.mean, given.std, crop_fraction=1.0)
    expected = (pixels - (127, 0, 5)) / (128, 1, 2)
    np.testing.assert_allclose(load_image(images / "00.png", same), expected, atol=255 * 2**-22)


def test_bad_fields(fails: Fails, source: Path, tmp_path: Path) -> None:
    def compress(message: str, *options: object, model: object = f"{source}:build") -> None:
        rest = ("--recipe", "fp32", "--output", tmp_path / "a.subbyte")
        fails(message, "compress", model, *options, *rest)

    size = ("--input-size", "16")
    compress("interpolation must be one of bicubic, bilinear, nearest", *size, "--interpolation", "cubic")
    compress("crop_mode must be one of center, squash", *size, "--crop-mode", "border")
    compress("crop_fraction must be in 0.01..1", *size, "--crop-fraction", "0")
    compress("the input size must be like 224", "--input-size", "²")
    for option in (
        ("--channels", 1),
        ("--no-rescale",),
        ("--crop-fraction", 0.9),
        ("--interpolation", "bilinear"),
    ):
        random = ("--weights", "random")
        compress("are for a module of your own", *option, *random, model="tf_efficientnet_lite0")


def test_corruptions_are_of_rgb(fails: Fails, invoke: Invoke, own: Path, mixed: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.subbyte"
    shape = ("--channels", 1, "--input-size", 12)
    assert invoke("compress", f"{own}:grey", *shape, "--recipe", "fp32", "--output", file).exit_code == 0
    options = ("--data", mixed, "--corruptions", "noise")
    message = "corruptions are defined for RGB images, the network takes 1 channel(s)"
    fails(message, "evaluate", file, *options)
    fails(message, "report", file, *options, "--output", tmp_path / "a.html")


def test_names_are_checked_before_the_work(
    fails: Fails, source: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("compressed first")

    monkeypatch.setattr("subbyte.compress.job.compress", never)
    monkeypatch.setattr("subbyte.compress.budgeted._table", never)
    names = tmp_path / "names.txt"
    names.write_text("ant\nbee\n")
    options = ("--input-size", 16, "--recipe", "w8a8", "--calibration", images, "--classes", names)
    command = ("compress", f"{source}:build", *options, "--output", tmp_path / "a.subbyte")
    fails("there are 2 class names, but the network has 6 outputs", *command)
    fails("there are 2 class names, but the network has 6 outputs", *command, "--size", "1MB")


def test_two_classes_of_one_name(invoke: Invoke, source: Path, images: Path, tmp_path: Path) -> None:
    """As ImageNet's cranes: the file keeps the names, what people read tells them apart."""
    names, file, page = tmp_path / "names.txt", tmp_path / "a.subbyte", tmp_path / "a.html"
    names.write_text("\n".join(["crane"] * 6))
    options = ("--input-size", 16, "--recipe", "fp32", "--classes", names)
    result = invoke("compress", f"{source}:build", *options, "--output", file)
    assert result.exit_code == 0, result.output
    assert subbyte.load(file).classes == ("crane",) * 6
    (answer,) = json.loads(invoke("run", file, images / "00.png", "--json").stdout)
    assert [row["name"] for row in answer["top"]] == [f"crane ({row['class']})" for row in answer["top"]]
    assert invoke("report", file, "--data", images, "--output", page).exit_code == 0
    assert "crane (3)" in page.read_text()


@pytest.mark.parametrize("outside", ["../secret.png", "{root}/secret.png", "sub/../../secret.png"])
def test_no_file_outside_the_folder_gets_into_a_report(
    fails: Fails, int8: Path, images: Path, tmp_path: Path, outside: str
) -> None:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes((images / "00.png").read_bytes())
    (folder / "labels.csv").write_text(f"file,label\n{outside.format(root=tmp_path)},1\n")
    message = "labels.csv line 2: the file must be inside the folder of the table"
    fails(message, "evaluate", int8, "--data", folder)
    fails(message, "report", int8, "--data", folder, "--output", tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()
