"""`subbyte compress`: the artifact it writes, and each way to be asked for the impossible."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

import subbyte
from subbyte.artifact.digest import graph_digest
from subbyte.data import load_image
from subbyte.data.samples import batches, image_folder, subset
from subbyte.execute import reference
from subbyte.quant import QTensor
from subbyte.recipes import load_recipe

Invoke = Callable[..., Any]
Fails = Callable[..., None]


def test_artifact_holds_all_that_is_needed(int8: Path, fp32: Path, images: Path) -> None:
    artifact = subbyte.load(int8)
    assert artifact.recipe["name"] == "w8a8"
    assert artifact.classes == ("ant", "bee", "cat", "dog", "elk", "fox")
    assert (artifact.preprocessing.height, artifact.preprocessing.width) == (16, 16)
    assert artifact.provenance["model"].endswith("network.py:build")
    assert artifact.provenance["calibration"] == f"12 images of {images.name}"
    assert artifact.provenance["subbyte"] == subbyte.__version__
    x = load_image(images / "00.png", artifact.preprocessing)
    exact = subbyte.Session(fp32).run(x)
    np.testing.assert_allclose(subbyte.Session(int8).run(x), exact, atol=0.05 * np.abs(exact).max())


def test_engine_equals_the_reference(int8: Path, images: Path) -> None:
    artifact = subbyte.load(int8)
    x = load_image(images / "01.png", artifact.preprocessing)[None]
    (expected,) = reference.run(artifact.graph, x).values()
    for isa in subbyte.available_isas():
        np.testing.assert_array_equal(subbyte.Session(artifact, isa=isa).run(x), expected)


def test_images_of_another_size(invoke: Invoke, fails: Fails, fp32: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.subbyte"
    command = ("compress", fp32, "--recipe", "fp32", "--output", small, "--resolution")
    assert invoke(*command, "12x10").exit_code == 0
    artifact = subbyte.load(small)
    assert artifact.preprocessing.shape == artifact.graph.value(artifact.graph.input).shape == (12, 10, 3)
    assert artifact.provenance["resolution"] == {"made_for": [16, 16]}
    fails("--resolution must be like 224 or 480x640 (height x width), got 'small'", *command, "small")


def test_same_command_same_file(invoke: Invoke, source: Path, images: Path, tmp_path: Path) -> None:
    files = [tmp_path / "a.subbyte", tmp_path / "b.subbyte"]
    for file in files:
        result = invoke(
            *("compress", f"{source}:build", "--input-size", "16x16", "--recipe", "w4a8", "--seed", 5),
            *("--calibration", images, "--images", 3, "--output", file),
        )
        assert result.exit_code == 0, result.output
        assert f"{file}: {source}:build as w4a8, " in result.stdout
    assert files[0].read_bytes() == files[1].read_bytes()
    assert subbyte.load(files[0]).provenance["calibration"] == f"3 images of {images.name}"


def test_own_normalization_and_size(invoke: Invoke, source: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.subbyte"
    options = ("--input-size", "12x18", "--mean", "0.5,0.25,0", "--std", "1,2,4", "--recipe", "fp32")
    result = invoke("compress", f"{source}:build", *options, "--output", output)
    assert result.exit_code == 0, result.output
    p = subbyte.load(output).preprocessing
    assert (p.height, p.width, p.mean, p.std) == (12, 18, (0.5, 0.25, 0.0), (1.0, 2.0, 4.0))


def test_weights_of_an_own_module(invoke: Invoke, source: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    namespace: dict[str, Any] = {}
    exec(source.read_text(), namespace)
    module = namespace["build"]()
    with torch.no_grad():
        module[6].bias.fill_(7.0)
        module[6].weight.zero_()
    torch.save(module.state_dict(), tmp_path / "weights.pth")
    output = tmp_path / "a.subbyte"
    options = ("--weights", tmp_path / "weights.pth", "--input-size", 16, "--recipe", "fp32")
    result = invoke("compress", f"{source}:build", *options, "--output", output)
    assert result.exit_code == 0, result.output
    logits = subbyte.Session(output).run(np.zeros((16, 16, 3), np.float32))
    np.testing.assert_array_equal(logits, np.full((1, 6), 7.0, np.float32))


def test_named_model(invoke: Invoke, tmp_path: Path) -> None:
    output = tmp_path / "a.subbyte"
    options = ("--weights", "random:3", "--recipe", "fp32", "--output", output)
    result = invoke("compress", "tf_efficientnet_lite0", *options)
    assert result.exit_code == 0, result.output
    artifact = subbyte.load(output)
    assert artifact.classes is not None
    assert artifact.classes[388] == "giant panda"
    assert artifact.provenance["weights"]["seed"] == 3
    assert artifact.provenance["seed"] == 0
    assert subbyte.Session(artifact).run(np.zeros((224, 224, 3), np.float32)).shape == (1, 1000)


def test_unusable_models(fails: Fails, source: Path, images: Path, tmp_path: Path) -> None:
    def compress(message: str, model: object, *options: object) -> None:
        rest = ("--recipe", "w8a8", "--calibration", images, "--output", tmp_path / "x.subbyte")
        fails(message, "compress", model, *options, *rest)

    size = ("--input-size", "16")
    compress("No model is called 'efficientnet_b00'", "efficientnet_b00", "--weights", "random")
    compress("No model is called", "efficientnet_b00")
    compress("needs weights", "efficientnet_b0")
    compress("are for a module of your own", "efficientnet_b0", "--weights", "random", *size)
    compress("There is no checkpoint file", "efficientnet_b0", "--weights", tmp_path / "w.pth")
    compress("needs --input-size", f"{source}:build")
    compress("the input size must be like 224", f"{source}:build", "--input-size", "0")
    compress("the input size must be like 224", f"{source}:build", "--input-size", "8x8x8")
    compress("--mean must be three numbers", f"{source}:build", *size, "--mean", "0.5")
    compress("--std must be three numbers", f"{source}:build", *size, "--std", "a,b,c")
    compress("there is no file", f"{tmp_path / 'missing.py'}:build", *size)
    compress("is given as path/to/file.py:callable", source, *size)
    compress("defines no callable 'nothing'", f"{source}:nothing", *size)
    compress("with ValueError: no such luck", f"{source}:broken", *size)
    compress("returned a int, not a torch.nn.Module", f"{source}:number", *size)
    compress("(Softshrink) is not supported", f"{source}:unsupported", *size)
    assert list(tmp_path.iterdir()) == []


def test_unusable_options(fails: Fails, source: Path, images: Path, tmp_path: Path) -> None:
    model = ("compress", f"{source}:build", "--input-size", "16")
    output = ("--output", tmp_path / "x.subbyte")
    data = ("--calibration", images)
    fails("there is no recipe 'w5a8'", *model, "--recipe", "w5a8", *data, *output)
    fails("cannot read the recipe", *model, "--recipe", tmp_path / "no.toml", *data, *output)
    fails("no calibration images", *model, "--recipe", "w8a8", *output)
    recipe = ("--recipe", "w8a8")
    fails("is not a folder", *model, *recipe, "--calibration", tmp_path / "missing", *output)
    fails("is not a folder", *model, *recipe, *data, "--output", tmp_path / "no" / "x.subbyte")
    fails("crop, squash", *model, *recipe, *data, *output, "--resize", "pad")
    names = tmp_path / "names.txt"
    names.write_text("ant\nbee\n")
    fails(
        "there are 2 class names, but the network has 6 outputs",
        *model,
        *recipe,
        *data,
        *output,
        "--classes",
        names,
    )
    fails("cannot read class names", *model, *recipe, *data, *output, "--classes", tmp_path / "no.txt")
    assert list(tmp_path.iterdir()) == [names]


def test_unusable_images(fails: Fails, source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    rest = ("--input-size", "16", "--recipe", "w8a8", "--output", tmp_path / "x.subbyte")
    fails("holds no images", "compress", f"{source}:build", "--calibration", folder, *rest)
    Image.new("RGB", (20, 20)).save(folder / "a.png")
    (folder / "b.jpg").write_bytes(b"no image")
    fails("b.jpg as an image", "compress", f"{source}:build", "--calibration", folder, *rest)
    assert list(tmp_path.iterdir()) == [folder]


def test_interrupt_leaves_nothing_and_says_one_line(images: Path, tmp_path: Path) -> None:
    """Ctrl-C in the middle of the work: the user's own module sends SIGINT to its process."""
    (tmp_path / "own.py").write_text(
        "import os, signal\ndef build():\n    os.kill(os.getpid(), signal.SIGINT)\n"
    )
    command = [
        *(sys.executable, "-m", "subbyte", "compress", "own.py:build", "--input-size", "16"),
        *("--recipe", "w8a8", "--calibration", str(images), "--output", "x.subbyte"),
    ]
    root = str(Path(subbyte.__file__).parents[1])
    result = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        # a test run in a shell's background inherits that SIGINT is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert result.returncode == 130
    assert (result.stdout, result.stderr) == ("", "interrupted\n")
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["own.py"]


def test_three_bit_weights(invoke: Invoke, source: Path, images: Path, tmp_path: Path) -> None:
    """A recipe file with 3 bits everywhere: files shrink by a bit per weight, and execution is exact."""
    sizes, artifacts = {}, {}
    for bits in (2, 3, 4, 8):
        recipe = tmp_path / f"w{bits}.toml"
        recipe.write_text(f'name = "w{bits}"\n[[override]]\nmatch = "*"\nweights = {bits}\n')
        path = tmp_path / f"w{bits}.subbyte"
        arguments = (f"{source}:build", "--input-size", 16, "--recipe", recipe, "--calibration", images)
        result = invoke("compress", *arguments, "--output", path)
        assert result.exit_code == 0, result.output
        artifacts[bits] = subbyte.load(path)
        with safe_open(path, "np") as file:
            sizes[bits] = file.get_tensor("U8").nbytes
    weights = [node.params["weight"] for node in artifacts[3].graph.nodes if "weight" in node.params]
    quantized = [weight for weight in weights if isinstance(weight, QTensor)]
    assert len(quantized) == len(weights)
    assert [weight.bits for weight in quantized] == [3, 3, 3]
    counts = [weight.codes.size for weight in quantized]
    assert counts == [216, 72, 48]  # all multiples of eight: no padding
    assert [sizes[bits] - sizes[2] for bits in (3, 4, 8)] == [sum(counts) * (b - 2) // 8 for b in (3, 4, 8)]
    x = load_image(images / "01.png", artifacts[3].preprocessing)[None]
    (expected,) = reference.run(artifacts[3].graph, x).values()
    session = subbyte.Session(artifacts[3])
    assert np.array_equal(session.run(x), expected)
    rows = [row for row in session.plan() if row["macs"]]
    assert [row["requested_weights"] for row in rows] == ["int3"] * 3
    assert [row["executed_weights"] for row in rows] == ["int4", "int8", "int4"]
    shown = json.loads(invoke("inspect", tmp_path / "w3.subbyte", "--repeats", 0, "--json").stdout)["plan"]
    assert [(row["requested"], row["executed"]) for row in shown if row["macs"]] == [
        ("int3 uint8", "int4 uint8"),
        ("int3 uint8", "int8 uint8"),
        ("int3 uint8", "int4 uint8"),
    ]


def test_training_is_logged_where_asked(
    invoke: Invoke, fails: Fails, source: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        'name = "r"\nsteps = ["distill"]\ndistill = {steps = 3, batch = 4}\n[weights]\nbits = 4\n'
    )
    command = (
        *("compress", f"{source}:build", "--input-size", 16, "--recipe", recipe),
        *("--calibration", images, "--output", tmp_path / "a.subbyte"),
    )
    for option, folder in (("--log", tmp_path / "log"), ("--work", tmp_path / "work")):
        result = invoke(*command, option, folder)
        assert result.exit_code == 0, result.output
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [(row["run"], row["step"], row["steps"]) for row in rows] == [
            ("distill", step, 3) for step in (1, 2, 3)
        ]
        assert all(row["loss"] > 0 and row["bits"] > 4 for row in rows)
    fails("--log", *command, "--log", recipe)
    fails("--tensorboard needs --log, or --work", *command, "--tensorboard")
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    missing = "this needs tensorboard: pip install 'subbyte[logs]'"
    fails(missing, *command, "--tensorboard", "--log", tmp_path / "other")


def test_a_file_is_trained_on(
    invoke: Invoke, fails: Fails, source: Path, images: Path, int8: Path, fp32: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "more.toml"
    recipe.write_text('name = "more"\nsteps = ["distill"]\ndistill = {steps = 2, batch = 4}\n')
    made = tmp_path / "more.subbyte"
    common = ("--calibration", images, "--output", made)
    command = ("compress", fp32, "--start", int8, *common)
    assert invoke(*command, "--recipe", recipe).exit_code == 0
    artifact, start = subbyte.load(made), subbyte.load(int8)
    assert artifact.provenance["start"]["file"] == int8.name
    assert artifact.recipe["name"] == "more"
    shown = batches(subset(image_folder(images), 256, 0), artifact.preprocessing)
    expected = subbyte.compress_model(fp32, str(recipe), shown, start=int8)
    assert graph_digest(artifact.graph) == graph_digest(expected.graph) != graph_digest(start.graph)
    fails("the recipe fp32 has no steps", *command, "--recipe", "fp32")
    fails("has its bit-widths; leave the budget out", *command, "--recipe", recipe, "--size", "1MB")


def test_labels_are_read_where_a_step_needs_them(
    invoke: Invoke, fails: Fails, images: Path, int8: Path, fp32: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "labelled.toml"
    recipe.write_text(
        'name = "more"\nsteps = ["distill"]\ndistill = {steps = 2, batch = 4, logits = 0.0, labels = 1.0}\n'
    )
    made = tmp_path / "more.subbyte"
    command = ("compress", fp32, "--start", int8, "--recipe", recipe, "--output", made, "--calibration")
    assert invoke(*command, images).exit_code == 0
    artifact = subbyte.load(made)
    shown = batches(subset(image_folder(images), 256, 0), artifact.preprocessing)
    labels = np.arange(12) % 6
    expected = subbyte.compress_model(fp32, str(recipe), shown, start=int8, labels=labels)
    assert graph_digest(artifact.graph) == graph_digest(expected.graph)
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in images.glob("*.png"):
        shutil.copy(path, bare)
    fails("labels", *command, bare)


WIDE = """
import torch
from torch import nn
def build():
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, 2), nn.SiLU(), nn.Conv2d(64, 96, 1), nn.SiLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 6),
    )
"""


def test_a_compact_file_of_a_size(invoke: Invoke, fails: Fails, images: Path, tmp_path: Path) -> None:
    """Of a network whose weights are most of its file."""
    made, source = tmp_path / "compact.subbyte", tmp_path / "wide.py"
    source.write_text(WIDE)
    own = (f"{source}:build", "--input-size", 16, "--calibration", images, "--output", made)
    command = ("compress", *own, "--recipe", "compact")
    assert invoke(*command).exit_code == 0
    whole = made.stat().st_size
    written = tmp_path / "fitting.toml"
    result = invoke(*command, "--size", whole - 200, "--write-recipe", written)
    assert result.exit_code == 0, result.output
    assert made.stat().st_size <= whole - 200
    artifact = subbyte.load(made)
    assert artifact.coding == "entropy"
    assert artifact.recipe["weights"]["rate"] < 4.0
    assert "bits each in the file" in result.output
    assert "on 2 images held back" in result.output
    shown = json.loads(invoke("inspect", made, "--repeats", 0, "--json").output)
    assert shown["bits_of_a_weight_in_the_file"] == pytest.approx(
        artifact.recipe["weights"]["rate"], abs=0.05
    )
    assert load_recipe(str(written)).model_dump(mode="json") == artifact.recipe
    fails("keeps its formats", *command, "--size", whole, "--patterns", "2:4")
    fails("give --size alone", *command, "--size", whole, "--drop", 5)
    fails("a file of 500 bytes leaves 0.00 bits a weight; allow", *command, "--size", 500)
