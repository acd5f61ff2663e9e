"""TensorFlow Lite files of float32 networks compute what LiteRT computes, within the bound of float32."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from subbyte.errors import InputError, UnsupportedOperatorError
from subbyte.execute import reference
from subbyte.execute.reference.bounds import run_with_bounds
from subbyte.importers import Imported, import_model
from subbyte.importers.tflite import image_input
from subbyte.importers.tflite.names import NAMES
from subbyte.ir import Graph
from subbyte.preprocess import Preprocessing

pytest.importorskip("ai_edge_litert")
from subbyte.benchmark.litert_peer import _interpreter, _runner
from tests.unit.importers.tflite_file import NONE, RELU, RELU6, RELU_N1_TO_1, SAME, VALID, File

Build = Callable[[File], int]


def imported(tmp_path: Path, data: bytes, channels: int = 4, size: tuple[int, int] = (8, 9)) -> Imported:
    path = tmp_path / "network.tflite"
    path.write_bytes(data)
    return import_model(path, preprocessing=Preprocessing(*size, (0.0,) * channels, (1.0,) * channels))


def litert(data: bytes, x: np.ndarray) -> list[np.ndarray]:
    run = _runner(_interpreter(1, model_content=data))
    return [np.concatenate(parts) for parts in zip(*(run(x[i : i + 1]) for i in range(len(x))), strict=True)]


def conv(f: File, x: int, stride: tuple[int, int], padding: int, act: int = NONE) -> int:
    height, width = f.tensors[x].shape[1:3]
    out = [
        -(-n // s) if padding == SAME else -(-(n - 2) // s)
        for n, s in zip((height, width), stride, strict=True)
    ]
    weight, bias = f.normal(6, 3, 3, 4), f.constant(f.rng.normal(size=6))
    return f.conv(x, weight, bias, (1, *out, 6), padding, stride, act)


def depthwise(f: File, multiplier: int, stride: tuple[int, int]) -> int:
    weight, bias = (
        f.constant(f.rng.normal(size=(1, 3, 2, 4 * multiplier)) / 2.5),
        f.constant(f.rng.normal(size=4 * multiplier)),
    )
    out = [-(-n // s) for n, s in zip((8, 9), stride, strict=True)]
    return f.conv(f.input, weight, bias, (1, *out, 4 * multiplier), SAME, stride, RELU6, multiplier)


def pad(f: File) -> int:
    amounts = f.constant([[0, 0], [1, 2], [0, 1], [0, 0]], "int32")
    return conv(f, f.op("PAD", [f.input, amounts], (1, 11, 10, 4), "PadOptions"), (2, 2), VALID)


def pad_and_same(f: File) -> int:
    amounts = f.constant([[0, 0], [1, 0], [0, 1], [0, 0]], "int64")
    return conv(f, f.op("PAD", [f.input, amounts], (1, 9, 10, 4), "PadOptions"), (2, 3), SAME)


def half(f: File) -> int:
    """float16 weights behind DEQUANTIZE."""
    narrow = [f.constant(f.rng.normal(size=s) / 6, "float16") for s in ((5, 3, 3, 4), (5,))]
    wide = [f.op("DEQUANTIZE", [n], f.tensors[n].shape, "DequantizeOptions") for n in narrow]
    return f.conv(f.input, wide[0], wide[1], (1, 8, 9, 5))


def eight_bit_weights(f: File) -> int:
    """int8 weights behind DEQUANTIZE, a scale for each output channel."""
    grid: dict[str, Any] = {"scale": [0.01, 0.02, 0.03], "zero": [0, 3, 0], "axis": 0}
    narrow = f.constant(f.rng.integers(-128, 128, (3, 1, 1, 4)), "int8", **grid)
    weight = f.op("DEQUANTIZE", [narrow], (3, 1, 1, 4), "DequantizeOptions")
    return f.conv(f.input, weight, f.constant([1, 2, 3]), (1, 8, 9, 3))


def squeeze_excite(f: File) -> int:
    """Its two layers on vectors, as Keras may write them."""
    axes = f.constant([1, 2], "int32")
    pooled = f.op("MEAN", [f.input, axes], (1, 4), "ReducerOptions", keepDims=False)
    fc: dict[str, Any] = {"options": "FullyConnectedOptions"}
    weights = [f.normal(3, 4), f.constant(f.rng.normal(size=3)), f.normal(4, 3)]
    y = f.op("FULLY_CONNECTED", [pooled, weights[0], weights[1]], (1, 3), fusedActivationFunction=RELU, **fc)
    y = f.op("FULLY_CONNECTED", [y, weights[2], -1], (1, 4), **fc)
    y = f.op("LOGISTIC", [y], (1, 4))
    shape = f.constant([1, 1, 1, -1], "int32")
    y = f.op("RESHAPE", [y, shape], (1, 1, 1, 4), "ReshapeOptions")
    return f.op("MUL", [f.input, y], (1, 8, 9, 4), "MulOptions")


def hard_sigmoid(f: File) -> int:
    y = f.op("ADD", [f.input, f.constant(3.0)], (1, 8, 9, 4), "AddOptions", fusedActivationFunction=RELU6)
    return f.op("MUL", [y, f.constant(1 / 6)], (1, 8, 9, 4), "MulOptions")


def head(f: File) -> int:
    pooled = f.op(
        "AVERAGE_POOL_2D", [f.input], (1, 1, 1, 4), "Pool2DOptions",
        padding=VALID, strideH=1, strideW=1, filterHeight=8, filterWidth=9,
    )  # fmt: skip
    y = f.op("SQUEEZE", [pooled], (1, 4), "SqueezeOptions", squeezeDims=[1, 2])
    return f.op(
        "FULLY_CONNECTED",
        [y, f.normal(5, 4), f.constant(f.rng.normal(size=5))],
        (1, 5),
        "FullyConnectedOptions",
    )


def flattened(f: File) -> int:
    """A linear layer that reads a map in TensorFlow's order."""
    fields: dict[str, Any] = {"options": "FullyConnectedOptions"}
    return f.op("FULLY_CONNECTED", [f.input, f.normal(7, 8 * 9 * 4), -1], (1, 7), **fields)


def kept_dimensions(f: File) -> int:
    fields: dict[str, Any] = {"options": "FullyConnectedOptions", "keepNumDims": True}
    return f.op("FULLY_CONNECTED", [f.input, f.normal(7, 4), -1], (1, 8, 9, 7), **fields)


def max_pool(f: File) -> int:
    return f.op(
        "MAX_POOL_2D", [f.input], (1, 4, 5, 4), "Pool2DOptions",
        padding=SAME, strideH=2, strideW=2, filterHeight=3, filterWidth=2, fusedActivationFunction=RELU,
    )  # fmt: skip


def transposed(f: File) -> int:
    size, bias = f.constant([1, 16, 27, 6], "int32"), f.constant(f.rng.normal(size=6))
    return f.op(
        "TRANSPOSE_CONV", [size, f.normal(6, 2, 4, 4), f.input, bias], (1, 16, 27, 6), "TransposeConvOptions",
        padding=SAME, strideH=2, strideW=3, fusedActivationFunction=RELU,
    )  # fmt: skip


def transposed_valid(f: File) -> int:
    return f.op(
        "TRANSPOSE_CONV", [f.constant([1, 17, 19, 3], "int32"), f.normal(3, 3, 3, 4), f.input],
        (1, 17, 19, 3), "TransposeConvOptions", padding=VALID, strideH=2, strideW=2,
    )  # fmt: skip


def joined(f: File) -> int:
    """Rows of several maps one after the other, as detectors do."""
    parts = [conv(f, f.input, (2, 2), SAME), conv(f, f.input, (1, 1), SAME)]
    flat = [
        f.op("RESHAPE", [part, f.constant([1, -1, 3], "int32")], (1, n, 3), "ReshapeOptions")
        for part, n in zip(parts, (40, 144), strict=True)
    ]
    return f.op("CONCATENATION", flat, (1, 184, 3), "ConcatenationOptions", axis=1)


def channels(f: File) -> int:
    y = f.op("CONCATENATION", [f.input, f.input], (1, 8, 9, 8), "ConcatenationOptions", axis=-1)
    return f.op("SUB", [y, f.constant(f.rng.normal(size=(1, 1, 1, 8)))], (1, 8, 9, 8), "SubOptions")


def elementwise(kind: str, options: str = "", **fields: Any) -> Build:
    return lambda f: f.op(kind, [f.input], (1, 8, 9, 4), options, **fields)


def add(f: File) -> int:
    y = f.conv(f.input, f.normal(4, 1, 1, 4), f.constant(np.zeros(4)), (1, 8, 9, 4))
    return f.op("ADD", [f.input, y], (1, 8, 9, 4), "AddOptions", fusedActivationFunction=RELU)


def silu(f: File) -> int:
    y = f.op("LOGISTIC", [f.input], (1, 8, 9, 4))
    return f.op("MUL", [f.input, y], (1, 8, 9, 4), "MulOptions")


def four(f: File, weight: int) -> int:
    """A 1x1 convolution."""
    return f.conv(f.input, weight, f.constant(np.zeros(4)), (1, 8, 9, 4))


def dilated(f: File) -> int:
    inputs = [f.input, f.normal(4, 3, 3, 4), f.constant(np.zeros(4))]
    fields: dict[str, Any] = {"strideH": 1, "strideW": 1}
    options = "Conv2DOptions"
    return f.op("CONV_2D", inputs, (1, 8, 9, 4), options, **fields, dilationHFactor=2, dilationWFactor=1)


def padded_channels(f: File) -> int:
    amounts = f.constant([[0, 0]] * 3 + [[0, 4]], "int32")
    return f.op("PAD", [f.input, amounts], (1, 8, 9, 8), "PadOptions")


def padded_map(f: File) -> int:
    """No window takes the zeros over."""
    amounts = f.constant([[0, 0], [1, 2], [0, 1], [2, 300]], "int32")
    return f.op("PAD", [f.input, amounts], (1, 11, 10, 306), "PadOptions")


def pool(
    f: File, kind: str, padding: int, kernel: tuple[int, int], shape: tuple[int, ...], x: int = 0
) -> int:
    fields: dict[str, Any] = {"padding": padding, "strideH": 2, "strideW": 2}
    return f.op(kind, [x], shape, "Pool2DOptions", **fields, filterHeight=kernel[0], filterWidth=kernel[1])


def padded_pool(f: File, kind: str) -> int:
    """Zeros that count."""
    amounts = f.constant([[0, 0], [1, 1], [1, 0], [0, 0]], "int32")
    y = f.op("PAD", [f.input, amounts], (1, 10, 10, 4), "PadOptions")
    return pool(f, kind, VALID, (2, 2), (1, 5, 5, 4), y)


def part(f: File, kind: str, numbers: list[list[int]], shape: tuple[int, ...], **masks: Any) -> int:
    options = "StridedSliceOptions" if kind == "STRIDED_SLICE" else "SliceOptions"
    return f.op(kind, [f.input, *(f.constant(n, "int32") for n in numbers)], shape, options, **masks)


def turned(f: File, order: tuple[int, ...], shape: tuple[int, ...]) -> int:
    return f.op("TRANSPOSE", [f.input, f.constant(order, "int32")], shape, "TransposeOptions")


def shuffled(f: File) -> int:
    """Channels of two groups take turns."""
    y = f.op("RESHAPE", [f.input, f.constant([1, 8, 9, 2, 2], "int32")], (1, 8, 9, 2, 2), "ReshapeOptions")
    y = f.op("TRANSPOSE", [y, f.constant([0, 1, 2, 4, 3], "int32")], (1, 8, 9, 2, 2), "TransposeOptions")
    y = f.op("RESHAPE", [y, f.constant([1, 8, 9, 4], "int32")], (1, 8, 9, 4), "ReshapeOptions")
    return conv(f, y, (1, 1), SAME)


def split(f: File, kind: str) -> int:
    """Its second result less its first one."""
    axis = f.constant(3, "int32")
    inputs = [axis, f.input] if kind == "SPLIT" else [f.input, f.constant([2, -1], "int32"), axis]
    options = "SplitOptions" if kind == "SPLIT" else "SplitVOptions"
    first = f.op(kind, inputs, (1, 8, 9, 2), options, numSplits=2)
    second = f.tensor("second", (1, 8, 9, 2))
    f.operators[-1].outputs = [first, second]
    return f.op("SUB", [second, first], (1, 8, 9, 2), "SubOptions")


def resized(kind: str, size: tuple[int, int], corners: bool = False, centers: bool = False) -> Build:
    options = {"RESIZE_BILINEAR": "ResizeBilinearOptions"}.get(kind, "ResizeNearestNeighborOptions")
    fields: dict[str, Any] = {"alignCorners": corners, "halfPixelCenters": centers}
    return lambda f: f.op(kind, [f.input, f.constant(size, "int32")], (1, *size, 4), options, **fields)


def map_again(f: File) -> int:
    """Rows become columns, which a convolution reads."""
    y = f.op("RESHAPE", [f.input, f.constant([1, 6, 12, 4], "int32")], (1, 6, 12, 4), "ReshapeOptions")
    return conv(f, y, (1, 1), SAME)


CASES: dict[str, Build] = {
    "same": lambda f: conv(f, f.input, (1, 1), SAME, RELU),
    "same, even and odd sizes with a stride": lambda f: conv(f, f.input, (2, 2), SAME),
    "same, a stride that needs no padding": lambda f: conv(f, f.input, (3, 4), SAME, RELU_N1_TO_1),
    "valid": lambda f: conv(f, f.input, (2, 3), VALID, RELU6),
    "grouped": lambda f: f.conv(f.input, f.normal(6, 3, 3, 2), f.constant(np.ones(6)), (1, 8, 9, 6)),
    "depthwise": lambda f: depthwise(f, 1, (1, 1)),
    "depthwise, multiplier and stride": lambda f: depthwise(f, 3, (2, 2)),
    "pad": pad,
    "pad before padding": pad_and_same,
    "float16 weights": half,
    "int8 weights": eight_bit_weights,
    "squeeze and excitation": squeeze_excite,
    "hard sigmoid": hard_sigmoid,
    "head": head,
    "flattened": flattened,
    "kept dimensions": kept_dimensions,
    "max pool": max_pool,
    "rows of maps": joined,
    "channels": channels,
    "divided": lambda f: f.op("DIV", [f.input, f.constant(0.4)], (1, 8, 9, 4), "DivOptions"),
    "subtracted": lambda f: f.op("SUB", [f.constant([1, 2, 3, 4]), f.input], (1, 8, 9, 4), "SubOptions"),
    "relu": elementwise("RELU"),
    "relu -1 to 1": elementwise("RELU_N1_TO_1"),
    "hard swish": elementwise("HARD_SWISH"),
    "leaky": elementwise("LEAKY_RELU", "LeakyReluOptions", alpha=0.3),
    "elu": elementwise("ELU"),
    "tanh": elementwise("TANH"),
    "gelu": elementwise("GELU", "GeluOptions", approximate=False),
    "prelu": lambda f: f.op("PRELU", [f.input, f.constant([0.25])], (1, 8, 9, 4)),
    "add": add,
    "silu": silu,
    "dilation": dilated,
    "padded channels": padded_channels,
    "padded map": padded_map,
    "mirrored": lambda f: f.op(
        "MIRROR_PAD", [f.input, f.constant([[0, 0], [2, 1], [0, 3], [0, 0]], "int32")], (1, 11, 12, 4),
        "MirrorPadOptions", mode=0,
    ),
    "mean of windows": lambda f: pool(f, "AVERAGE_POOL_2D", VALID, (3, 2), (1, 3, 4, 4)),
    "mean of windows, same": lambda f: pool(f, "AVERAGE_POOL_2D", SAME, (3, 3), (1, 4, 5, 4)),
    "mean of padded windows": lambda f: padded_pool(f, "AVERAGE_POOL_2D"),
    "maximum of padded windows": lambda f: padded_pool(f, "MAX_POOL_2D"),
    "slopes of channels": lambda f: f.op(
        "PRELU", [f.input, f.constant([[[0.1, 0.5, -0.2, 1.5]]])], (1, 8, 9, 4)
    ),
    "transposed convolution": transposed,
    "transposed convolution, valid": transposed_valid,
    "product": lambda f: f.op("MUL", [f.input, four(f, f.normal(4, 1, 1, 4))], (1, 8, 9, 4), "MulOptions"),
    "slice": lambda f: part(f, "SLICE", [[0, 1, 2, 1], [1, 5, -1, 2]], (1, 5, 7, 2)),
    "strided slice": lambda f: part(
        f, "STRIDED_SLICE", [[0, 1, -7, 5], [1, -1, 9, 1], [1, 2, 3, 2]], (1, 3, 3, 2),
        beginMask=8, endMask=8,
    ),
    "split": lambda f: split(f, "SPLIT"),
    "split of sizes": lambda f: split(f, "SPLIT_V"),
    "transposed": lambda f: turned(f, (0, 2, 3, 1), (1, 9, 4, 8)),
    "shuffled": shuffled,
    "map of another shape": map_again,
    "depth to space": lambda f: f.op(
        "DEPTH_TO_SPACE", [f.input], (1, 16, 18, 1), "DepthToSpaceOptions", blockSize=2
    ),
    "space to depth": lambda f: f.op(
        "SPACE_TO_DEPTH", [conv(f, f.input, (1, 2), VALID)], (1, 3, 2, 24), "SpaceToDepthOptions", blockSize=2
    ),
    "nearest": resized("RESIZE_NEAREST_NEIGHBOR", (16, 6)),
    "nearest, corners": resized("RESIZE_NEAREST_NEIGHBOR", (13, 17), corners=True),
    "nearest, centers": resized("RESIZE_NEAREST_NEIGHBOR", (12, 5), centers=True),
    "bilinear": resized("RESIZE_BILINEAR", (16, 6)),
    "bilinear, corners": resized("RESIZE_BILINEAR", (13, 17), corners=True),
    "bilinear, centers": resized("RESIZE_BILINEAR", (12, 5), centers=True),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_float32_networks_agree_with_litert(tmp_path: Path, name: str) -> None:
    """Both are within the float32 bound of the exact result, so twice that apart.

    LiteRT computes where a row lies between others by three float32 operations on numbers up to 10, along two
    axes, which counts by the difference of two numbers.
    """
    f = File()
    data = f.bytes(CASES[name](f))
    graph = imported(tmp_path, data).graph
    x = (2 * np.random.default_rng(1).standard_normal((3, 8, 9, 4))).astype(np.float32)
    (expected,) = litert(data, x)
    computed, bound = run_with_bounds(graph, x)[graph.outputs[0]]
    expected = expected.reshape(computed.shape)
    assert np.abs(expected).max() > 0.1
    if "bilinear" in name:
        bound = bound + 2 * 3 * 10 * 2.0**-24 * np.ptp(x)
    assert (np.abs(computed - expected) <= 2 * bound).all(), np.abs(computed - expected).max()


def graph_of(build: Build, tmp_path: Path) -> Graph:
    f = File()
    return imported(tmp_path, f.bytes(build(f))).graph


def test_what_becomes_of_them(tmp_path: Path) -> None:
    (node,) = graph_of(CASES["same, even and odd sizes with a stride"], tmp_path).nodes
    assert node.attrs["pad"] == [0, 1, 1, 1]
    assert [n.attrs["pad"] for n in graph_of(pad_and_same, tmp_path).nodes] == [[2, 1, 1, 2]]
    assert [n.op for n in graph_of(hard_sigmoid, tmp_path).nodes] == ["activation"]
    assert [n.op for n in graph_of(squeeze_excite, tmp_path).nodes] == [
        *("global_avg_pool", "conv2d", "conv2d", "mul")
    ]
    assert [n.attrs["act"] for n in graph_of(CASES["silu"], tmp_path).nodes] == ["silu"]


def test_a_softmax_at_the_end_is_left_out(tmp_path: Path) -> None:
    f = File()
    scores = head(f)
    y = f.op("SOFTMAX", [scores], (1, 5), "SoftmaxOptions", beta=1.0)
    y = f.op("RESHAPE", [y, f.constant([5], "int32")], (5,), "ReshapeOptions")
    found = imported(tmp_path, f.bytes(y))
    assert found.provenance["left_out"] == [f"softmax softmax {y - 2}"]
    f.operators = f.operators[:-2]
    without = imported(tmp_path, f.bytes(scores))
    assert "left_out" not in without.provenance
    x = np.random.default_rng(2).standard_normal((1, 8, 9, 4)).astype(np.float32)
    (a,), (b,) = (reference.run(one.graph, x).values() for one in (found, without))
    assert np.array_equal(a, b)


def test_where_it_comes_from(tmp_path: Path) -> None:
    f = File()
    provenance = imported(tmp_path, f.bytes(joined(f))).provenance
    assert provenance["model"] == "network.tflite"
    assert provenance["weights"]["description"] == "made by a test"
    assert len(provenance["weights"]["sha256"]) == 64
    assert list(provenance["shapes"].values()) == [[1, 184, 3]]


def test_all_that_stops_a_network_is_found_in_one_go(tmp_path: Path) -> None:
    f = File()
    y = f.op("DEPTH_TO_SPACE", [f.input], (1, 8, 9, 4), "DepthToSpaceOptions", blockSize=3)
    y = f.op("ADD", [y, f.input], (1, 8, 9, 4), "AddOptions")
    y = f.op("ABS", [y], (1, 8, 9, 4))
    y = f.op("RESHAPE", [y, f.constant([1, 72, 4], "int32")], (1, 72, 4), "ReshapeOptions")
    with pytest.raises(UnsupportedOperatorError) as stopped:
        imported(tmp_path, f.bytes(y))
    assert str(stopped.value) == (
        "operator DEPTH_TO_SPACE (number 0, which makes 'depth_to_space 1') is not supported: 4 channels do "
        "not fill blocks of 3; and 1 more, which `subbyte check` lists"
    )
    assert [p.site.operator for p in stopped.value.problems] == ["DEPTH_TO_SPACE", "ABS"]


REFUSED: dict[str, tuple[Build, str]] = {
    "softmax inside": (
        lambda f: conv(f, f.op("SOFTMAX", [f.input], (1, 8, 9, 4), "SoftmaxOptions", beta=1.0), (1, 1), SAME),
        "leave it out and apply it to the outputs",
    ),
    "NaN": (lambda f: four(f, f.constant(np.full((4, 1, 1, 4), np.nan))), "NaN or infinity"),
    "another shape": (lambda f: f.op("RELU", [f.input], (1, 9, 8, 4)), "where the file says"),
    "no weight": (
        lambda f: four(f, f.op("RELU", [f.input], (1, 8, 9, 4))),
        "its weight is computed from the image",
    ),
    "padded batch": (
        lambda f: f.op("PAD", [f.input, f.constant([[0, 1]] + [[0, 0]] * 3, "int32")], (2, 8, 9, 4)),
        "not to the batch",
    ),
    "part outside": (
        lambda f: part(f, "SLICE", [[0, 0, 8, 0], [1, 8, 2, 4]], (1, 8, 2, 4)),
        "it takes 8..10 of 9 positions",
    ),
    "another axis": (
        lambda f: part(f, "STRIDED_SLICE", [[0] * 4, [1, 8, 9, 1], [1] * 4], (1, 8, 9), shrinkAxisMask=8),
        "it adds or drops axes",
    ),
    "order of the batch": (lambda f: turned(f, (1, 0, 2, 3), (8, 1, 9, 4)), "its order is"),
    "blocks that do not fit": (
        lambda f: f.op("DEPTH_TO_SPACE", [f.input], (1, 24, 27, 1), "DepthToSpaceOptions", blockSize=3),
        "4 channels do not fill blocks of 3",
    ),
    "the image itself": (lambda f: f.input, "it is the image itself"),
    "a constant": (lambda f: f.constant(np.zeros((1, 4))), "does not depend on the image"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_does_not_know_is_one_clear_error(tmp_path: Path, name: str) -> None:
    from subbyte.errors import SubbyteError

    build, message = REFUSED[name]
    f = File()
    with pytest.raises(SubbyteError, match=message):
        imported(tmp_path, f.bytes(build(f)))


def normalized(f: File, mean: list[float], std: list[float]) -> None:
    """Adds TFLITE_METADATA with NormalizationOptions of the input, built field by field."""
    import flatbuffers

    b = flatbuffers.Builder(64)

    def floats(values: list[float]) -> int:
        b.StartVector(4, len(values), 4)
        for value in reversed(values):
            b.PrependFloat32(value)
        return int(b.EndVector())

    def table(fields: dict[int, int], kind: int | None = None) -> int:
        b.StartObject(8)
        if kind is not None:
            b.PrependUint8Slot(0, kind, 0)
        for number, offset in fields.items():
            b.PrependUOffsetTRelativeSlot(number, offset, 0)
        return int(b.EndObject())

    def vector(offset: int) -> int:
        b.StartVector(4, 1, 4)
        b.PrependUOffsetTRelative(offset)
        return int(b.EndVector())

    options = table({0: floats(mean), 1: floats(std)})
    unit = table({1: options}, kind=1)
    tensor = table({4: vector(unit)})
    graph = table({2: vector(tensor)})
    b.Finish(table({3: vector(graph)}), file_identifier=b"M001")
    entry, buffer = f.schema.MetadataT(), f.schema.BufferT()
    buffer.data = np.frombuffer(bytes(b.Output()), np.uint8)
    f.buffers.append(buffer)
    entry.name, entry.buffer = b"TFLITE_METADATA", len(f.buffers) - 1
    f.metadata.append(entry)


def test_the_input_as_the_file_tells_it(tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    f = File((1, 8, 9, 3))
    y = f.op("RELU", [f.input], (1, 8, 9, 3))
    path.write_bytes(f.bytes(y))
    assert image_input(str(path)).shape == (8, 9, 3)
    assert image_input(str(path)).mean is None
    with pytest.raises(InputError, match="needs a preprocessing"):
        import_model(path)
    with pytest.raises(InputError, match=r"takes images of 8 x 9 x 3 .* not 9 x 8 x 3"):
        import_model(path, preprocessing=Preprocessing(9, 8, (0.0,) * 3, (1.0,) * 3))
    normalized(f, [127.5], [51.0])
    path.write_bytes(f.bytes(y))
    assert import_model(path).preprocessing == Preprocessing(8, 9, (0.5,) * 3, (0.2,) * 3)


def test_names_are_those_of_the_schema() -> None:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    known = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    assert list(NAMES) == [known[code] for code in range(len(NAMES))]


def test_without_torch_and_tensorflow(tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    f = File((1, 8, 9, 3))
    normalized(f, [0.0], [255.0])
    path.write_bytes(f.bytes(f.op("RELU", [f.input], (1, 8, 9, 3))))
    code = (
        "import sys\n"
        "for name in ('torch', 'tensorflow', 'flatbuffers', 'ai_edge_litert'):\n sys.modules[name] = None\n"
        f"import subbyte\nprint(subbyte.import_model({str(path)!r}).graph.nodes[0].op)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "activation"
