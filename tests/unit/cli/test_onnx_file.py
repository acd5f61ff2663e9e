"""check and compress of ONNX files: float ones as any network, quantized ones as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import subbyte
from subbyte.execute.reference.executor import run
from tests.unit.importers.onnx.network import Net
from tests.unit.importers.onnx.test_quantized import Quantized

Invoke = Callable[..., Any]
Fails = Callable[..., None]
SHAPE = (8, 8, 3)


@pytest.fixture
def floats(tmp_path: Path) -> Path:
    net = Net(shape=SHAPE)
    net.op("Relu", net.conv(3, 8))
    net.op("Gemm", net.op("Flatten", net.op("GlobalAveragePool")), net.normal(8, 5))
    return net.file(tmp_path)


@pytest.fixture
def codes(tmp_path: Path) -> Path:
    net = Quantized(1, shape=SHAPE)
    net.round(-4, 4, "x")
    net.round(0, 3, net.op("Relu", net.layer(net.last, net.grid(-4, 4)[0], 3, 8)))
    net.op("Flatten", net.round(-1, 1, net.op("GlobalAveragePool")))
    folder = tmp_path / "codes"
    folder.mkdir()
    return net.file(folder)


def open_sizes(file: Path, other: Path) -> Path:
    """The same network without the height and width of its input."""
    model = onnx.load(str(file))
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "side"
    onnx.save(model, str(other))
    return other


def test_a_float_file(invoke: Invoke, floats: Path, images: Path, tmp_path: Path) -> None:
    facts = json.loads(invoke("check", floats, "--json").stdout)
    assert facts["supported"]
    assert facts["layers"] == {"conv2d": 1, "global_avg_pool": 1, "flatten": 1, "linear": 1}
    file = tmp_path / "a.subbyte"
    options = ("--recipe", "w8a8", "--calibration", images, "--output", file)
    result = invoke("compress", floats, *options)
    assert result.exit_code == 0, result.output
    assert subbyte.load(file).recipe["name"] == "w8a8"


def test_a_quantized_file(invoke: Invoke, fails: Fails, codes: Path, images: Path, tmp_path: Path) -> None:
    facts = json.loads(invoke("check", codes, "--input-size", 8, "--json").stdout)
    assert facts["quantized"]
    assert "is quantized already" in invoke("check", codes, "--input-size", 8).stdout
    file = tmp_path / "a.subbyte"
    common = ("compress", codes, "--input-size", 8, "--mean", "0.5,0.5,0.5", "--output", file)
    result = invoke(*common)
    assert result.exit_code == 0, result.output
    kept = subbyte.load(file)
    assert kept.preprocessing.mean == (0.5,) * 3
    x = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    (expected,) = run(kept.graph, x).values()
    np.testing.assert_array_equal(subbyte.Session(file).run(x), expected)
    fails("need --recipe", *common, "--calibration", images)
    fails("need --recipe", *common, "--size", "1MB")
    assert invoke(*common, "--calibration", images, "--recipe", "w8a8").exit_code == 0
    assert "dequantized" in subbyte.load(file).provenance


def test_what_is_wrong(invoke: Invoke, fails: Fails, floats: Path, tmp_path: Path) -> None:
    output = ("--output", tmp_path / "a.subbyte")
    fails("the network is float32; give a recipe", "compress", floats, "--input-size", 8, *output)
    unsized = open_sizes(floats, tmp_path / "open.onnx")
    fails("open.onnx needs --input-size", "compress", unsized, "--recipe", "w8a8", *output)
    assert invoke("check", unsized, "--input-size", 8).exit_code == 0
    fails("is ? x 3 x 8 x 8, which no batch of one image of 9 x 9", "check", floats, "--input-size", 9)
    result = invoke("compress", "tf_efficientnet_lite0", "--weights", "random", *output)
    assert result.exit_code == 2
    assert "Missing option '--recipe'" in result.stderr


def test_unsupported_operators_are_listed(invoke: Invoke, tmp_path: Path) -> None:
    net = Net(shape=SHAPE)
    net.op("NonZero", net.conv(3, 8))
    result = invoke("check", net.file(tmp_path), "--input-size", 8)
    assert result.exit_code == 1
    assert "NonZero" in result.stdout
    assert "QuantizeLinear" in result.stdout  # of the operators that are supported
