"""8-bit TensorFlow Lite files keep their quantization: the integers of our own exports, and those of LiteRT
but for the rounding of its fixed-point multipliers."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import subbyte
from subbyte.artifact import Artifact
from subbyte.errors import InputError
from subbyte.execute import reference
from subbyte.execute.native import Session
from subbyte.exporters.tflite import to_tflite
from subbyte.importers import Imported, import_model
from subbyte.ir import Graph
from subbyte.preprocess import Preprocessing
from tests.contract.agreement import assert_engine_equals, random_images
from tests.fuzz.builder import Builder

pytest.importorskip("ai_edge_litert")
from subbyte.benchmark.litert_peer import _interpreter, _runner
from tests.unit.exporters.test_tflite import CASES
from tests.unit.importers.tflite_file import RELU, SAME, VALID, File

#: The format needs a grid there that the graph does not have, which rounds once more in LiteRT.
OTHER_GRID = {"residual", "gate with factors", "sigmoid"}


def imported(tmp_path: Path, data: bytes, shape: tuple[int, ...]) -> Imported:
    path = tmp_path / "network.tflite"
    path.write_bytes(data)
    channels = shape[2]
    pre = Preprocessing(shape[0], shape[1], (0.0,) * min(channels, 3), (1.0,) * min(channels, 3))
    if channels > 4:  # no image, but the importer asks for its shape only
        object.__setattr__(pre, "mean", (0.0,) * channels)
    return import_model(path, preprocessing=pre)


def exported(name: str, seed: int) -> tuple[Graph, bytes, str]:
    """A quantized graph, its file, and the name of its last value on a grid."""
    b = Builder(random.Random(seed), (9, 8, 6))
    y = CASES[name](b, b.quantize("image"))
    graph = b.finish(b.add("dequantize", [y]))
    return graph, to_tflite(graph), y


def litert(data: bytes, x: np.ndarray) -> np.ndarray:
    run = _runner(_interpreter(1, model_content=data))
    return np.concatenate([run(x[i : i + 1])[0] for i in range(len(x))])


@pytest.mark.parametrize("name", CASES)
def test_our_exports_imported_again(tmp_path: Path, name: str) -> None:
    """Equal integers but for factors of a gate, which are float32 there; everywhere within the roundings of
    LiteRT: one code for the multiplier, one more where a grid is between."""
    graph, data, y = exported(name, 3)
    found = imported(tmp_path, data, (9, 8, 6)).graph
    x = random_images(graph, 6, 3)
    (expected,), (actual,) = (reference.run(one, x).values() for one in (graph, found))
    if name != "gate with factors":
        assert np.array_equal(actual, expected)
    step = graph.value(y).grid.scale
    codes, theirs = np.rint(actual / step), np.rint(litert(data, x).reshape(actual.shape) / step)
    assert np.abs(codes - theirs).max() <= 1 + (name in OTHER_GRID)


def network(f: File, dtype: str) -> int:
    """Two convolutions, a sum, a pool and a linear layer in 8 bits, input and output codes."""
    low = -128 if dtype == "int8" else 0
    grid: dict[str, Any] = {"dtype": dtype, "scale": [0.05], "zero": [low + 120]}
    bias = {"scale": [0.0005] * 4, "zero": [0] * 4}
    weights: dict[str, Any] = {"dtype": "int8", "zero": [0] * 4}
    first = f.constant(f.rng.integers(-127, 128, (4, 3, 3, 3)), scale=[0.01, 0.012, 0.008, 0.01], **weights)
    y = f.conv(
        f.input,
        first,
        f.constant([9, -5, 3, 0], "int32", **bias),
        (1, 5, 4, 4),
        SAME,
        (2, 2),
        RELU,
        grid=grid,
    )
    depthwise = f.constant(f.rng.integers(-127, 128, (1, 3, 3, 4)), scale=[0.01] * 4, axis=3, **weights)
    z = f.conv(
        y, depthwise, f.constant([0] * 4, "int32", **bias), (1, 5, 4, 4), SAME, multiplier=1, grid=grid
    )
    z = f.op("ADD", [z, y], (1, 5, 4, 4), "AddOptions", grid)
    z = f.op("MEAN", [z, f.constant([1, 2], "int32")], (1, 4), "ReducerOptions", grid, keepDims=False)
    last = f.constant(f.rng.integers(-127, 128, (3, 4)), "int8", scale=[0.02], zero=[0])
    return f.op(
        "FULLY_CONNECTED",
        [z, last, f.constant([1, 2, 3], "int32", scale=[0.001], zero=[0])],
        (1, 3),
        "FullyConnectedOptions",
        grid,
    )


def file_of_codes(dtype: str) -> tuple[File, bytes]:
    zero = 0 if dtype == "int8" else 128
    f = File((1, 9, 8, 3), dtype, scale=[0.0078125], zero=[zero])
    return f, f.bytes(network(f, dtype))


def test_a_network_of_codes(tmp_path: Path) -> None:
    """Every code within one of LiteRT's for each of the five layers' roundings that it went through (here all
    are equal or one apart), and the engine equal to the reference."""
    path = tmp_path / "codes.tflite"
    _, data = file_of_codes("int8")
    path.write_bytes(data)
    found = import_model(path)
    assert found.preprocessing.mean == (128 / 255,) * 3
    assert found.preprocessing.std == pytest.approx((128 / 255,) * 3)
    assert [n.op for n in found.graph.nodes] == [
        *("quantize", "conv2d", "conv2d", "add", "global_avg_pool", "flatten", "linear", "dequantize")
    ]
    pixels = np.random.default_rng(1).integers(0, 256, (20, 9, 8, 3))
    x = ((pixels - 128) * 0.0078125).astype(np.float32)
    theirs = litert(data, (pixels - 128).astype(np.int8)).astype(int)
    (ours,) = reference.run(found.graph, x).values()
    codes = np.rint(ours / np.float32(0.05)).astype(int) - 8
    assert len(np.unique(codes)) > 5
    assert np.abs(codes - theirs).max() <= 1
    assert_engine_equals(found.graph, x)


def test_compress_keeps_what_is_quantized(tmp_path: Path) -> None:
    path = tmp_path / "codes.tflite"
    path.write_bytes(file_of_codes("int8")[1])
    artifact = subbyte.compress_model(path)
    assert artifact.recipe == {}
    assert artifact.provenance["weights"]["file"] == "codes.tflite"
    subbyte.save(tmp_path / "a.subbyte", artifact)
    x = random_images(artifact.graph, 2, 1)
    again = Session(subbyte.load(tmp_path / "a.subbyte")).run(x)
    assert np.array_equal(again, Session(artifact.graph).run(x))


def test_a_recipe_begins_from_the_numbers(tmp_path: Path) -> None:
    path = tmp_path / "codes.tflite"
    path.write_bytes(file_of_codes("int8")[1])
    x = random_images(import_model(path).graph, 8, 2)
    artifact = subbyte.compress_model(path, "w4a8", [x])
    assert artifact.recipe["name"] == "w4a8"
    assert "its 8-bit numbers" in artifact.provenance["dequantized"]


def uint8_weights(spread: int) -> bytes:
    """Weights around a zero point of 100, as files of the first 8-bit scheme have them."""
    f = File((1, 9, 8, 3), "uint8", scale=[0.0078125], zero=[128])
    raw = f.rng.integers(100 - spread, 101 + spread, (4, 3, 3, 3))
    weight = f.constant(np.clip(raw, 0, 255), "uint8", scale=[0.01], zero=[100])
    bias = f.constant([5, -3, 2, 1], "int32", scale=[0.000078125], zero=[0])
    grid = {"dtype": "uint8", "scale": [0.02], "zero": [128]}
    return f.bytes(f.conv(f.input, weight, bias, (1, 7, 6, 4), VALID, grid=grid))


def test_weights_with_a_zero_point(tmp_path: Path) -> None:
    """Within int8 they are kept; else the network is float32, the difference half a code and its clamp."""
    path = tmp_path / "old.tflite"
    path.write_bytes(uint8_weights(100))
    kept = import_model(path)
    pixels = np.random.default_rng(1).integers(0, 256, (4, 9, 8, 3))
    x = ((pixels - 128) * 0.0078125).astype(np.float32)
    theirs = litert(uint8_weights(100), pixels.astype(np.uint8)).astype(int)
    (ours,) = reference.run(kept.graph, x).values()
    assert np.abs(np.rint(ours / np.float32(0.02)) + 128 - theirs).max() <= 1
    assert "dequantized" not in kept.provenance

    path.write_bytes(uint8_weights(155))
    real = import_model(path)
    assert all(value.q is None for value in real.graph.values.values())
    assert "zero points" in real.provenance["dequantized"]
    theirs = litert(uint8_weights(155), pixels.astype(np.uint8)).astype(int)
    (ours,) = reference.run(real.graph, x).values()
    inside = (theirs > 0) & (theirs < 255)
    assert inside.mean() > 0.5
    off = ours / np.float32(0.02) + 128 - theirs
    assert np.abs(off[inside]).max() <= 0.5 + 2.0**-8  # LiteRT's rounding; ours are float32's, far below
    with pytest.raises(InputError, match=r"the network is float32 \(weights have zero points.*give a recipe"):
        subbyte.compress_model(path)


def test_the_float32_network_needs_a_recipe(tmp_path: Path) -> None:
    f = File((1, 8, 9, 3))
    path = tmp_path / "float.tflite"
    path.write_bytes(f.bytes(f.op("RELU", [f.input], (1, 8, 9, 3))))
    with pytest.raises(InputError, match="the network is float32; give a recipe, such as w8a8"):
        subbyte.compress_model(path, preprocessing=Preprocessing(8, 9, (0.0,) * 3, (1.0,) * 3))


def test_other_quantizations_are_refused(tmp_path: Path) -> None:
    def refused(message: str, data: bytes) -> None:
        with pytest.raises(subbyte.SubbyteError, match=message):
            imported(tmp_path, data, (9, 8, 3))

    grid = {"scale": [0.1], "zero": [0]}
    f = File((1, 9, 8, 3), "int16", **grid)
    refused(
        "its values are int16",
        f.bytes(f.op("RELU", [f.input], (1, 9, 8, 3), grid={"dtype": "int16", **grid})),
    )
    f = File((1, 9, 8, 3), "int8", scale=[0.1, 0.2, 0.3], zero=[0, 0, 0], axis=3)
    refused(
        "one scale and zero point",
        f.bytes(f.op("RELU", [f.input], (1, 9, 8, 3), grid={"dtype": "int8", **grid})),
    )
    f = File((1, 9, 8, 3), "int8", scale=[float("nan")], zero=[0])
    refused(
        "scale must be positive and finite",
        f.bytes(f.op("RELU", [f.input], (1, 9, 8, 3), grid={"dtype": "int8", **grid})),
    )
    f = File((1, 9, 8, 3), "int8", scale=[0.1], zero=[300])
    refused(
        "zero point 428 is outside",
        f.bytes(f.op("RELU", [f.input], (1, 9, 8, 3), grid={"dtype": "int8", **grid})),
    )


def test_an_artifact_without_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "codes.tflite"
    path.write_bytes(file_of_codes("uint8")[1])
    artifact = subbyte.compress_model(path, classes=("a", "b", "c"))
    assert isinstance(artifact, Artifact)
    assert artifact.classes == ("a", "b", "c")
    assert replace(artifact, recipe={}).recipe == artifact.recipe


GRID: dict[str, Any] = {"dtype": "int8", "scale": [0.03], "zero": [-12]}
OTHER: dict[str, Any] = {"dtype": "int8", "scale": [0.05], "zero": [7]}
#: One operator on a map [1, 9, 8, 4] on GRID.
ONE: dict[str, Any] = {
    "slopes": lambda f: f.op(
        "PRELU",
        [f.input, f.constant([[[-20, 50, 3, 90]]], "int8", scale=[0.01], zero=[2])],
        (1, 9, 8, 4),
        grid=OTHER,
    ),
    "windows": lambda f: f.op(
        "AVERAGE_POOL_2D", [f.input], (1, 5, 4, 4), "Pool2DOptions", GRID,
        padding=SAME, strideH=2, strideW=2, filterHeight=3, filterWidth=2,
    ),
    "difference": lambda f: f.op("SUB", [f.input, f.input], (1, 9, 8, 4), "SubOptions", OTHER),
    "square": lambda f: f.op("MUL", [f.input, f.input], (1, 9, 8, 4), "MulOptions", OTHER),
    "bilinear": lambda f: f.op(
        "RESIZE_BILINEAR", [f.input, f.constant([18, 16], "int32")], (1, 18, 16, 4),
        "ResizeBilinearOptions", GRID, halfPixelCenters=True,
    ),
    "transposed": lambda f: f.op(
        "TRANSPOSE_CONV",
        [
            f.constant([1, 18, 16, 5], "int32"),
            f.constant(
                f.rng.integers(-127, 128, (5, 3, 3, 4)), "int8", scale=[0.002, 0.003, 0.004, 0.005, 0.006],
                zero=[0] * 5,
            ),
            f.input,
            f.constant([300, -200, 0, 50, 99], "int32"),
        ],
        (1, 18, 16, 5), "TransposeConvOptions", OTHER, padding=SAME, strideH=2, strideW=2,
    ),
    "padded": lambda f: f.op(
        "PAD", [f.input, f.constant([[0, 0], [1, 0], [2, 0], [0, 3]], "int32")], (1, 10, 10, 7),
        "PadOptions", GRID,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE)
def test_one_operator_of_codes(tmp_path: Path, name: str) -> None:
    """One rounding here and there."""
    f = File((1, 9, 8, 4), **GRID)
    data = f.bytes(ONE[name](f))
    path = tmp_path / "one.tflite"
    path.write_bytes(data)
    graph = import_model(path, preprocessing=Preprocessing(9, 8, (0.0,) * 4, (1.0,) * 4)).graph
    codes = np.random.default_rng(4).integers(-128, 128, (3, 9, 8, 4)).astype(np.int8)
    x = ((codes.astype(np.float32) + 12) * np.float32(0.03)).astype(np.float32)
    (ours,) = reference.run(graph, x).values()
    grid = f.tensors[-1].quantization
    found = np.rint(ours / grid.scale[0]) + grid.zeroPoint[0]
    assert np.abs(found - litert(data, codes).astype(int)).max() <= 1
    assert_engine_equals(graph, x)
