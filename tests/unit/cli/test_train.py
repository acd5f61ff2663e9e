"""`subbyte train`: what it writes, that `compress` reads it, and each thing a user can get wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import subbyte
from tests.unit.cli.conftest import CLASSES

Invoke = Callable[..., Any]
Fails = Callable[..., None]
SMALL = ("--epochs", "2", "--batch", "4", "--stages", "2", "--image-size", "16x24", "--precision", "float32")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images of noise in two subfolders."""
    root = tmp_path_factory.mktemp("classes")
    rng = np.random.default_rng(4)
    for i in range(10):
        folder = root / ("ant", "bee")[i % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(folder / f"{i}.png")
    return root


def test_from_images_to_an_artifact(invoke: Invoke, folders: Path, tmp_path: Path) -> None:
    out, artifact = tmp_path / "out", tmp_path / "a.subbyte"
    result = invoke("train", "efficientnetv2_xs", "--data", folders, "--output", out, *SMALL)
    assert result.exit_code == 0, result.output
    assert "model.safetensors: efficientnetv2_xs, top-1 " in result.stdout
    assert " of 2 held back" in result.stdout
    assert {path.name for path in out.iterdir()} - {"tensorboard"} == {
        "model.safetensors", "metrics.jsonl", "curve.svg", "classes.txt", "state.pt",
    }  # fmt: skip
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [(r["step"], r["stage"], r["size"]) for r in records] == [(2, 1, [8, 16]), (4, 2, [16, 24])]
    curve = ElementTree.parse(out / "curve.svg")
    lines = curve.findall("{http://www.w3.org/2000/svg}polyline")
    assert [(line.get("class"), len(str(line.get("points")).split())) for line in lines] == [
        ("loss", 2),
        ("top1", 2),
    ]
    result = invoke(
        *("compress", "efficientnetv2_xs", "--weights", out / "model.safetensors", "--recipe", "fp32"),
        *("--classes", out / "classes.txt", "--output", artifact),
    )
    assert result.exit_code == 0, result.output
    loaded = subbyte.load(artifact)
    assert loaded.classes == ("ant", "bee")
    assert loaded.preprocessing.shape == (16, 24, 3)
    again = invoke("train", "efficientnetv2_xs", "--data", folders, "--output", out, *SMALL)
    assert again.stdout == result_of(out, records)
    tuned = tmp_path / "tuned"
    result = invoke(
        *("train", "efficientnetv2_xs", "--data", folders, "--output", tuned, *SMALL, "--no-hold-back"),
        *("--weights", out / "model.safetensors", "--teacher", artifact),
    )
    assert result.exit_code == 0, result.output
    assert "top-1" not in result.stdout


def result_of(out: Path, records: list[dict[str, Any]]) -> str:
    """What the command says of a training that was finished before."""
    last = records[-1]
    interval = {0: "0.00 % – 65.76 %", 1: "9.45 % – 90.55 %", 2: "34.24 % – 100.00 %"}[last["top1"]]
    return (
        f"{out}/model.safetensors: efficientnetv2_xs, top-1 {last['top1']} of 2 held back, "
        f"{50 * last['top1']:.2f} % (95 % interval {interval}), {last['seconds']:.0f} s\n"
    )


def test_a_network_of_one_s_own(invoke: Invoke, source: Path, images: Path, tmp_path: Path) -> None:
    """The numbers of classes come from labels.csv; there are no names."""
    result = invoke(
        *("train", f"{source}:build", "--data", images, "--output", tmp_path, "--input-size", "16"),
        *("--epochs", "1", "--batch", "4", "--validation", images),
    )
    assert result.exit_code == 0, result.output
    assert " of 12 held back" in result.stdout
    assert not (tmp_path / "classes.txt").exists()
    result = invoke(
        *("compress", f"{source}:build", "--weights", tmp_path / "model.safetensors", "--input-size", "16"),
        *("--recipe", "fp32", "--output", tmp_path / "a.subbyte"),
    )
    assert result.exit_code == 0, result.output


def test_what_a_user_can_get_wrong(
    fails: Fails, invoke: Invoke, source: Path, images: Path, folders: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    names = tmp_path / "names.txt"
    names.write_text("\n".join(CLASSES[:3]))
    (tmp_path / "empty").mkdir()
    (tmp_path / "a-file").write_text("")
    one = ("train", "efficientnetv2_xs", "--data", images, "--output", out)
    own = ("train", f"{source}:build", "--data", images, "--output", out)
    fails("is not a folder", "train", "efficientnetv2_xs", "--data", tmp_path / "no", "--output", out)
    fails("holds no labelled images", *one[:3], tmp_path / "empty", "--output", out)
    fails("--output", *one[:5], tmp_path / "a-file")
    fails("No model is called", "train", "efficientnetv3", *one[2:])
    fails("has the label 3: the network has 3 classes", *one, "--classes", names)
    fails("--mixup must be two numbers like 0.1:0.3", *one, "--mixup", "much")
    fails("the dropout of training must be", *one, "--dropout", "0:1")
    fails("the epochs of training must be more than 0", *one, "--epochs", "0")
    fails("the optimizer must be one of adamw, rmsprop", *one, "--optimizer", "sgd")
    fails("the precision must be one of float32, bfloat16", *one, "--precision", "int8")
    fails("the input size must be like 224", *one, "--image-size", "large")
    fails("Preprocessing height must be a whole number", *one, "--image-size", "9999")
    fails("--image-size is for a network by name", *own, "--input-size", "16", "--image-size", "16")
    fails("needs --input-size", *own)
    fails("there is no device cuda:9", *one, "--device", "cuda:9")
    fails("the device must be cpu, cuda or cuda:N", *one, "--device", "tpu")
    fails("There is no checkpoint file", *one, "--weights", tmp_path / "none.pt")
    fails("cannot read", *one, "--teacher", tmp_path / "none.subbyte")
    fails("needs weights", *one, "--teacher", "efficientnet_b0")
    fails("a batch of 5 cannot be shared", *one, "--batch", "5", "--image-size", "16")
    fails(
        "answers an image with [1, 8, 4, 4]", *own[:1], f"{source}:unsupported", *own[2:], "--input-size", "6"
    )
    few = tmp_path / "few"
    (few / "ant").mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(few / "ant" / "a.png")
    fails("has only 1 images", "train", "efficientnetv2_xs", "--data", few, "--output", out)
    assert invoke(*one[:4]).exit_code == 2
