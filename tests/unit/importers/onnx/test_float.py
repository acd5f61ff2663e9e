"""Float networks: each operator within the float32 bound of ONNX Runtime, and what has no counterpart."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from subbyte.errors import InputError, UnsupportedOperatorError
from subbyte.execute.reference.bounds import run_with_bounds
from subbyte.execute.reference.executor import run
from subbyte.exporters.onnx import to_onnx
from subbyte.ir import Graph
from subbyte.passes import optimize
from tests.unit.exporters.test_onnx import random_graph
from tests.unit.importers.onnx.network import Net, imported, onnx, runtime

f32, i64 = np.float32, np.int64


def check(net: Net, folder: Path, *outputs: str) -> Graph:
    """Asserts that every output is within the bound of ONNX Runtime's."""
    path, x = net.file(folder, *outputs), net.images()
    graph = imported(path, net.shape).graph
    computed = run_with_bounds(graph, x)
    results = runtime(path, x)
    assert len(results) == len(graph.outputs)
    for name, expected in zip(graph.outputs, results, strict=True):
        got, bound = computed[name]
        assert got.shape == expected.shape
        assert np.ptp(expected) > 0, "a constant output would hide mistakes"
        assert bound.max() <= 1e-3 * np.abs(expected).max(), "the bound is too loose to prove anything"
        assert (np.abs(got - expected.astype(np.float64)) <= bound).all()
    return graph


def acts(graph: Graph) -> list[str]:
    return [str(node.attrs["act"]) for node in graph.nodes if node.attrs.get("act", "none") != "none"]


CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "group": {"group": 2},
    "depthwise": {"group": 4},
    "strides": {"strides": [2, 1]},
    "uneven pads": {"pads": [0, 1, 2, 1]},
    "same upper": {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    "same lower": {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    "valid": {"auto_pad": "VALID"},
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution(tmp_path: Path, case: str) -> None:
    attrs = CONVOLUTIONS[case]
    net = Net()
    weight = net.normal(8, 4 // attrs.get("group", 1), 3, 3)
    net.op("Conv", "x", weight, **attrs)
    (node,) = check(net, tmp_path).nodes
    assert node.op == "conv2d"


def one_and_erf(net: Net, x: str) -> str:
    """1 + erf(x / sqrt(2))"""
    return net.op("Add", net.op("Erf", net.op("Div", x, f32(math.sqrt(2)))), f32(1))


ACTIVATIONS: dict[str, tuple[Callable[[Net, str], object], str]] = {
    "Relu": (lambda n, x: n.op("Relu", x), "relu"),
    "Sigmoid": (lambda n, x: n.op("Sigmoid", x), "sigmoid"),
    "Tanh": (lambda n, x: n.op("Tanh", x), "tanh"),
    "HardSwish": (lambda n, x: n.op("HardSwish", x), "hard_swish"),
    "HardSigmoid": (lambda n, x: n.op("HardSigmoid", x, alpha=1 / 6), "hard_sigmoid"),
    "HardSigmoid 0.2": (lambda n, x: n.op("HardSigmoid", x), "clip:0.0:1.0"),
    "LeakyRelu": (lambda n, x: n.op("LeakyRelu", x, alpha=0.25), "leaky_relu:0.25"),
    "PRelu": (lambda n, x: n.op("PRelu", x, np.full((8, 1, 1), 0.25, f32)), "leaky_relu:0.25"),
    "Clip": (lambda n, x: n.op("Clip", x, f32(0), f32(6)), "relu6"),
    "Clip below": (lambda n, x: n.op("Clip", x, f32(0)), "relu"),
    "Clip other": (lambda n, x: n.op("Clip", x, f32(-0.5), f32(0.25)), "clip:-0.5:0.25"),
    "Max": (lambda n, x: n.op("Max", f32(0), x), "relu"),
    "Gelu": (lambda n, x: n.op("Gelu", x), "gelu"),
    "gelu of erf": (lambda n, x: n.op("Mul", n.op("Mul", x, one_and_erf(n, x)), f32(0.5)), "gelu"),
    "gelu of half erf": (lambda n, x: n.op("Mul", n.op("Mul", one_and_erf(n, x), f32(0.5)), x), "gelu"),
    "gelu of half": (lambda n, x: n.op("Mul", n.op("Mul", x, f32(0.5)), one_and_erf(n, x)), "gelu"),
    "Gelu tanh": (lambda n, x: n.op("Gelu", x, approximate="tanh"), "gelu_tanh"),
    "Mish": (lambda n, x: n.op("Mish", x), "mish"),
    "Softplus": (lambda n, x: n.op("Softplus", x), "softplus"),
    "Elu": (lambda n, x: n.op("Elu", x, alpha=0.5), "elu:0.5:1.0:1.0"),
    "silu": (lambda n, x: n.op("Mul", x, n.op("Sigmoid", x)), "silu"),
    "hard-swish": (lambda n, x: n.op("Mul", n.op("HardSigmoid", x, alpha=1 / 6), x), "hard_swish"),
    "hard-swish of a clip": (
        lambda n, x: n.op(
            "Div", n.op("Mul", x, n.op("Clip", n.op("Add", x, f32(3)), f32(0), f32(6))), f32(6)
        ),
        "hard_swish",
    ),
    "hard-swish of a quotient": (
        lambda n, x: n.op(
            "Mul", x, n.op("Div", n.op("Clip", n.op("Add", x, f32(3)), f32(0), f32(6)), f32(6))
        ),
        "hard_swish",
    ),
}


@pytest.mark.parametrize("case", ACTIVATIONS)
def test_activation(tmp_path: Path, case: str) -> None:
    """Behind a convolution it is fused; written as several nodes it is one function."""
    make, act = ACTIVATIONS[case]
    net = Net()
    make(net, net.conv(4, 8))
    (node,) = check(net, tmp_path).nodes
    assert (node.op, node.attrs["act"]) == ("conv2d", act)


def test_what_resembles_a_hard_swish_is_none(tmp_path: Path) -> None:
    net = Net()
    x = net.conv(4, 8)
    net.op("Mul", x, net.op("HardSigmoid", x, alpha=0.17))
    assert check(net, tmp_path).nodes[-1].op == "multiply"


def padded(net: Net, *sides: int, x: str = "x", **attrs: Any) -> str:
    return net.op("Pad", x, np.array(sides, i64), **attrs)


def shuffled(net: Net) -> str:
    """Channels of two groups take turns, as ShuffleNet writes it."""
    net.op("Reshape", net.conv(4, 8), np.array([-1, 2, 4, 9, 7], i64))
    net.op("Transpose", net.last, perm=[0, 2, 1, 3, 4])
    return net.op("Reshape", net.last, np.array([-1, 8, 9, 7], i64))


def unshuffled(net: Net) -> str:
    """A map of blocks, whose positions become channels."""
    net.op("Reshape", net.conv(4, 8), np.array([-1, 8, 3, 3, 1, 7], i64))
    net.op("Transpose", net.last, perm=[0, 3, 5, 1, 2, 4])
    return net.op("Reshape", net.last, np.array([-1, 168, 3, 1], i64))


def ranges(*of: tuple[int, int, int, int]) -> tuple[np.ndarray, ...]:
    """starts, ends, axes, steps"""
    return tuple(np.array(numbers, i64) for numbers in zip(*of, strict=True))


def two(net: Net) -> tuple[str, str]:
    return net.conv(4, 8, x="x"), net.conv(4, 8, x="x")


def halves(net: Net, *sizes: np.ndarray, **attrs: Any) -> str:
    """The second part of a map's channels less the first."""
    first = net.op("Split", net.conv(4, 8), *sizes, axis=1, **attrs)
    net.nodes[-1].output.append("second")
    return net.op("Sub", "second", first)


NONE = np.zeros(0, f32)
HALF = {"coordinate_transformation_mode": "half_pixel"}
PARTS: dict[str, tuple[Callable[[Net], object], str]] = {
    "dilation": (
        lambda n: n.op("Conv", "x", n.normal(8, 4, 3, 3), dilations=[2, 3], pads=[2, 0, 1, 3]), "conv2d"
    ),
    "slopes of channels": (
        lambda n: n.op("PRelu", "x", np.array([0.1, 0.5, -0.3, 2], f32)[:, None, None]), "prelu"
    ),
    "difference": (lambda n: n.op("Sub", *two(n)), "conv2d conv2d subtract"),
    "product": (lambda n: n.op("Mul", *two(n)), "conv2d conv2d multiply"),
    "mean of windows": (
        lambda n: n.op("AveragePool", "x", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 0, 1]),
        "avg_pool2d",
    ),
    "mean with padding": (
        lambda n: n.op("AveragePool", "x", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1),
        "avg_pool2d",
    ),
    "mean, rounded up": (
        lambda n: n.op("AveragePool", "x", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), "avg_pool2d"
    ),
    "reflected": (lambda n: padded(n, 0, 0, 2, 1, 0, 0, 0, 3, mode="reflect"), "pad"),
    "edges": (lambda n: padded(n, 0, 0, 2, 1, 0, 0, 0, 3, mode="edge"), "pad"),
    "padded channels": (lambda n: padded(n, 0, 1, 0, 0, 0, 4, 0, 0), "rearrange pad rearrange"),
    "padding that no window takes": (
        lambda n: n.op("Relu", padded(n, 0, 0, 1, 0, 0, 0, 0, 2)), "pad activation"
    ),
    "part": (
        lambda n: n.op("Slice", "x", *ranges((1, -1, 2, 3), (-3, 9, 1, 2), (0, 99, 3, 2))), "slice"
    ),
    "part of a vector": (
        lambda n: n.op("Slice", n.op("Flatten", n.op("GlobalMaxPool")), *ranges((1, 3, 1, 1))),
        "flatten max_pool2d slice",
    ),
    "halves": (lambda n: halves(n, np.array([4, 4], i64)), "conv2d slice slice subtract"),
    "equal halves": (lambda n: halves(n, num_outputs=2), "conv2d slice slice subtract"),
    "depth to space": (lambda n: n.op("DepthToSpace", "x", blocksize=2), "rearrange"),
    "depth to space, columns first": (
        lambda n: n.op("DepthToSpace", n.conv(4, 8), blocksize=2, mode="CRD"), "conv2d rearrange"
    ),
    "space to depth": (
        lambda n: n.op("SpaceToDepth", n.conv(4, 8, strides=[2, 1], pads=[0, 1, 0, 2]), blocksize=2),
        "conv2d rearrange",
    ),
    "shuffled channels": (shuffled, "conv2d rearrange"),
    "blocks": (unshuffled, "conv2d rearrange"),
    "flattened": (lambda n: n.op("Flatten", n.conv(4, 8)), "conv2d rearrange"),
    "nearest": (
        lambda n: n.op(
            "Resize", "x", NONE, np.array([1, 1, 2, 3], f32),
            coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        ),
        "resize_nearest",
    ),
    "nearest, centers": (
        lambda n: n.op("Resize", "x", NONE, NONE, np.array([1, 4, 18, 14], i64)), "resize_nearest"
    ),
    "linear": (
        lambda n: n.op("Resize", "x", NONE, NONE, np.array([1, 4, 12, 5], i64), mode="linear", **HALF),
        "resize_bilinear",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PARTS)
def test_moved_parts(tmp_path: Path, case: str) -> None:
    make, ops = PARTS[case]
    net = Net()
    make(net)
    if "linear" in ops:  # ONNX Runtime computes where rows lie in float32: three operations on up to 10
        path, x = net.file(tmp_path), net.images()
        graph = imported(path, net.shape).graph
        found = run_with_bounds(graph, x)[graph.outputs[0]]
        (expected,) = runtime(path, x)
        apart = 2 * 3 * 10 * 2.0**-24 * np.ptp(x)
        assert (np.abs(found[0] - expected) <= 2 * found[1] + apart).all()
    else:
        graph = check(net, tmp_path)
    assert sorted(node.op for node in graph.nodes) == sorted(ops.split())


def attention(net: Net) -> str:
    """As torch writes it: heads by Reshape and Transpose, two products, and tokens as a map again."""
    tokens = net.op(
        "Transpose", net.op("Reshape", net.conv(4, 12), np.array([0, 12, 63], i64)), perm=[0, 2, 1]
    )
    heads = net.op(
        "Transpose", net.op("Reshape", tokens, np.array([0, 63, 3, 2, 2], i64)), perm=[2, 0, 3, 1, 4]
    )
    q, k, v = (net.op("Gather", heads, np.array(i, i64), axis=0) for i in range(3))
    scores = net.op("MatMul", net.op("Mul", q, f32(0.7)), net.op("Transpose", k, perm=[0, 1, 3, 2]))
    mixed = net.op("MatMul", net.op("Softmax", scores, axis=-1), v)
    mixed = net.op("Reshape", net.op("Transpose", mixed, perm=[0, 2, 1, 3]), np.array([0, 63, 4], i64))
    joined = net.op("Add", net.op("MatMul", mixed, net.normal(4, 4)), net.normal(4))
    return net.op("Reshape", net.op("Transpose", joined, perm=[0, 2, 1]), np.array([0, 4, 9, 7], i64))


def gated(net: Net) -> str:
    """A pooled vector through a convolution over its channels (ECA)."""
    x = net.conv(4, 8)
    line = net.op("Reshape", net.op("GlobalAveragePool", x), np.array([0, 1, 8], i64))
    gate = net.op("Sigmoid", net.op("Conv", line, net.normal(1, 1, 3), pads=[1, 1], kernel_shape=[3]))
    return net.op("Mul", x, net.op("Reshape", gate, np.array([0, 8, 1, 1], i64)))


def normal(net: Net, op: str, *sizes: int, **attrs: Any) -> str:
    return net.op(op, net.conv(4, 8), *(net.normal(n) for n in sizes), **attrs)


#: What other families of networks have.
FAMILIES: dict[str, Callable[[Net], object]] = {
    "attention": attention,
    "channel attention": gated,
    "transposed": lambda n: n.op(
        "ConvTranspose", "x", n.normal(4, 6, 3, 4), n.normal(6), strides=[2, 3], pads=[1, 0, 0, 1],
        output_padding=[1, 0],
    ),
    "transposed, grouped and dilated": lambda n: n.op(
        "ConvTranspose", "x", n.normal(4, 3, 2, 3), strides=[2, 2], dilations=[2, 1], group=2,
    ),
    "transposed to a size": lambda n: n.op(
        "ConvTranspose", "x", n.normal(4, 6, 3, 3), strides=[2, 2], output_shape=[18, 14]
    ),
    "layer norm, channels last": lambda n: n.op(
        "Transpose",
        n.op(
            "LayerNormalization", n.op("Transpose", n.conv(4, 8), perm=[0, 2, 3, 1]), n.normal(8),
            n.normal(8), axis=-1,
        ),
        perm=[0, 3, 1, 2],
    ),
    "instance norm": lambda n: normal(n, "InstanceNormalization", 8, 8, epsilon=1e-3),
    "norm of length one": lambda n: n.op("LpNormalization", n.conv(4, 8), axis=1, p=2),
    "softmax inside": lambda n: n.op("Relu", n.op("Softmax", n.conv(4, 8), axis=3)),
    "mean of channels": lambda n: n.op("ReduceMean", n.conv(4, 8), np.array([1], i64)),
    "sum of columns": lambda n: n.op("ReduceSum", n.conv(4, 8), np.array([3], i64), keepdims=0),
    "least": lambda n: n.op("ReduceMin", n.conv(4, 8), np.array([2, 3], i64)),
    "length": lambda n: n.op("ReduceL2", n.conv(4, 8), np.array([1], i64)),
    "quotient": lambda n: n.op("Div", n.conv(4, 8), n.op("Add", n.op("Abs", n.conv(4, 8, x="x")), f32(1))),
    "root": lambda n: n.op("Sqrt", n.op("Add", n.op("Pow", n.conv(4, 8), f32(2)), f32(1))),
    "larger": lambda n: n.op("Max", *two(n)),
    "backwards": lambda n: n.op("Slice", "x", *ranges((5, 1, 2, -1))),
    "chosen": lambda n: n.op("Gather", "x", np.array([3, 0, 0, 2], i64), axis=1),
    "tiled": lambda n: n.op("Tile", "x", np.array([1, 2, 1, 3], i64)),
    "expanded": lambda n: n.op(
        "Add", "x", n.op("Expand", n.op("ReduceMean", "x", np.array([3], i64)), np.array([1, 4, 9, 7], i64))
    ),
    "turned": lambda n: n.op("Relu", n.op("Transpose", n.conv(4, 8), perm=[0, 3, 1, 2])),
    "class token": lambda n: n.op(
        "Concat", n.normal(1, 1, 4),
        n.op("Transpose", n.op("Reshape", "x", np.array([0, 4, 63], i64)), perm=[0, 2, 1]), axis=1,
    ),
    "constants of places": lambda n: n.op("Add", "x", n.normal(1, 4, 9, 7)),
}  # fmt: skip


@pytest.mark.parametrize("case", FAMILIES)
def test_other_families(tmp_path: Path, case: str) -> None:
    """Beside ONNX Runtime, which sums in float32 in its own order: 1e-5 of the largest number is 168 units of
    rounding, and the longest sum, of 3 x 3 x 8 products and 63 tokens behind it, has 135."""
    net = Net()
    FAMILIES[case](net)
    path, x = net.file(tmp_path), net.images()[:1]
    (got,) = run(imported(path, net.shape).graph, x).values()
    (expected,) = runtime(path, x)
    assert np.ptp(expected) > 0
    assert np.abs(got.reshape(-1) - expected.reshape(-1)).max() <= 1e-5 * np.abs(expected).max()


REFUSED: dict[str, tuple[Callable[[Net], object], str]] = {
    "rounding": (
        lambda n: n.op("Resize", "x", NONE, np.array([1, 1, 2, 2], f32), nearest_mode="ceil"),
        "its rows are rounded in a way",
    ),
    "cubic": (lambda n: n.op("Resize", "x", NONE, np.array([1, 1, 2, 2], f32), mode="cubic"), "its mode is"),
    "no whole size": (
        lambda n: n.op("Resize", "x", NONE, np.array([1, 1, 1.5, 1.5], f32), mode="linear"), "no whole sizes"
    ),
    "blocks": (lambda n: n.op("DepthToSpace", "x", blocksize=3), "do not fill blocks"),
    "batch": (lambda n: n.op("Transpose", "x", perm=[1, 0, 2, 3]), "it needs a map"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_parts_that_are_refused(tmp_path: Path, case: str) -> None:
    make, message = REFUSED[case]
    net = Net()
    make(net)
    with pytest.raises(UnsupportedOperatorError, match=message):
        imported(net.file(tmp_path))


def test_an_output_of_another_rank_is_a_vector(tmp_path: Path) -> None:
    """As detectors have it: positions, then numbers of each, in the file's order."""
    net = Net()
    net.op("Transpose", net.conv(4, 6), perm=[0, 2, 3, 1])
    net.op("Reshape", net.last, np.array([1, -1, 3], i64))
    path, x = net.file(tmp_path), net.images()
    found = imported(path)
    got, bound = run_with_bounds(found.graph, x)[found.graph.outputs[0]]
    (expected,) = runtime(path, x)
    assert (np.abs(got - expected.reshape(got.shape)) <= bound).all()
    assert list(found.provenance["onnx"]["shapes"].values()) == [[1, 126, 3]]


def test_erf_alone_is_none(tmp_path: Path) -> None:
    for finish in ("Relu", "Identity"):
        net = Net()
        net.op(finish, net.op("Erf", net.conv(4, 8)))
        with pytest.raises(UnsupportedOperatorError, match="erf is known as a part of GELU only"):
            imported(net.file(tmp_path))


def test_affine_operators_are_folded(tmp_path: Path) -> None:
    net = Net()
    net.op("Add", net.op("Conv", "x", net.normal(8, 4, 1, 1)), net.normal(8)[:, None, None])
    net.op("Sub", net.last, f32(0.5))
    net.op("Mul", net.normal(1, 8, 1, 1) + 1, net.last)
    net.op("Div", net.last, f32(3))
    statistics = [net.normal(8) + 1, net.normal(8), net.normal(8), net.normal(8) ** 2 + f32(0.5)]
    net.op("BatchNormalization", net.last, *statistics, epsilon=1e-3)
    net.op("Neg")
    (node,) = check(net, tmp_path).nodes
    assert node.op == "conv2d"


def test_squeeze_and_excitation_and_classifier(tmp_path: Path) -> None:
    """As torch writes them, the gate's layers on vectors, and shapes computed on the way."""
    net = Net(opset=13)
    x = net.conv(4, 8)
    net.op("ReduceMean", x, axes=[2, 3], keepdims=0)
    net.op("Relu", net.op("Gemm", net.last, net.normal(3, 8), net.normal(3), transB=1))
    net.op("Sigmoid", net.op("Add", net.op("MatMul", net.last, net.normal(3, 8)), net.normal(8)))
    gate = net.op("Unsqueeze", net.last, np.array([2, 3], i64))
    x = net.op("Mul", gate, x)
    x = net.op("Add", x, net.conv(8, 8, x=x))
    x = net.op("Concat", x, net.op("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), axis=1)
    pooled = net.op("GlobalAveragePool", x)
    batch = net.op("Unsqueeze", net.op("Gather", net.op("Shape", x), i64(0)), np.array([0], i64))
    wanted = net.op("Concat", batch, np.array([-1], i64), axis=0)
    net.op("Reshape", pooled, wanted)
    net.op("Gemm", net.op("Dropout"), net.normal(16, 5), net.normal(5), alpha=0.5, beta=2.0)
    graph = check(net, tmp_path)
    assert [n.op for n in graph.nodes].count("mul") == 1
    assert not [n for n in graph.nodes if n.op == "batch_norm"]


def test_a_flattened_map_keeps_its_order(tmp_path: Path) -> None:
    net = Net()
    net.op("Flatten", net.op("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 3], ceil_mode=1))
    net.op("Gemm", net.last, net.normal(60, 6))
    check(net, tmp_path)
    net = Net()
    net.op("Flatten", net.op("Transpose", "x", perm=[0, 2, 3, 1]))
    net.op("MatMul", net.last, net.normal(252, 6))
    check(net, tmp_path)


def test_images_with_channels_last(tmp_path: Path) -> None:
    net = Net()
    net.conv(4, 8, x=net.op("Transpose", "x", perm=[0, 3, 1, 2]))
    net.op("Squeeze", net.op("GlobalMaxPool"), np.array([2, 3], i64))
    path, x = net.file(tmp_path, input=["N", *net.shape]), net.images()
    graph = imported(path).graph
    got, bound = run_with_bounds(graph, x)[graph.outputs[0]]
    (expected,) = runtime(path, x)
    assert (np.abs(got - expected) <= bound).all()


def test_padding_is_taken_over(tmp_path: Path) -> None:
    net = Net()
    net.op("Pad", "x", np.array([0, 0, 1, 0, 0, 0, 0, 2], i64))
    net.op("Conv", net.last, net.normal(8, 4, 3, 3))
    net.op("Pad", net.last, np.array([1, 1, 0, 0], i64), f32(-math.inf), np.array([2, 3], i64))
    net.op("MaxPool", net.last, kernel_shape=[2, 2])
    assert [node.op for node in check(net, tmp_path).nodes] == ["conv2d", "max_pool2d"]


def test_outputs_in_their_order(tmp_path: Path) -> None:
    net = Net()
    first = net.conv(4, 8)
    second = net.op("Flatten", net.op("GlobalAveragePool", first))
    assert len(check(net, tmp_path, second, first).outputs) == 2


def test_a_softmax_in_the_end_is_left_out(tmp_path: Path) -> None:
    net = Net()
    scores = net.op("Flatten", net.op("GlobalAveragePool", net.conv(4, 8)))
    net.op("Identity", net.op("Softmax", scores, axis=1))
    path, x = net.file(tmp_path), net.images()
    with pytest.warns(UserWarning, match="left out: Softmax n3; outputs are the scores before it"):
        found = imported(path)
    (got,) = run(found.graph, x).values()
    (expected,) = runtime(path, x)
    exponentials = np.exp(got - got.max(axis=1, keepdims=True))
    np.testing.assert_allclose(exponentials / exponentials.sum(axis=1, keepdims=True), expected, rtol=1e-5)
    assert found.provenance["onnx"]["left_out"] == ["Softmax n3"]
    net = Net()
    net.op("Mul", net.op("LogSoftmax", net.conv(4, 8), axis=1), f32(2))
    with pytest.raises(UnsupportedOperatorError, match="only as the last node"):
        imported(net.file(tmp_path))


def test_provenance(tmp_path: Path) -> None:
    net = Net()
    net.conv(4, 8)
    facts = imported(net.file(tmp_path)).provenance["onnx"]
    assert (facts["file"], facts["opset"], facts["producer"]) == ("net.onnx", 20, "hand")
    assert len(facts["sha256"]) == 64


@pytest.mark.parametrize("opset", [11, 25])
def test_opsets(tmp_path: Path, opset: int) -> None:
    net = Net(opset=opset)
    net.op("Relu", net.conv(4, 8))
    assert acts(imported(net.file(tmp_path)).graph) == ["relu"]


@pytest.mark.parametrize("opset", [10, 26])
def test_other_opsets_are_refused(tmp_path: Path, opset: int) -> None:
    net = Net(opset=opset)
    net.conv(4, 8)
    with pytest.raises(InputError, match=f"net.onnx has opset {opset}; read are 11 to 25"):
        imported(net.file(tmp_path))


def test_every_problem_is_told(tmp_path: Path) -> None:
    net = Net()
    net.op("CumSum", net.conv(4, 8), np.array(1, i64))
    net.op("Relu")
    net.op("NonZero")
    with pytest.raises(UnsupportedOperatorError, match=r"node 'n1' \(CumSum\).*and 1 more") as error:
        imported(net.file(tmp_path))
    assert [problem.site.operator for problem in error.value.problems] == ["CumSum", "NonZero"]
    net = Net()
    net.op("FusedConv", "x", net.normal(8, 4, 3, 3), domain="org.example")
    with pytest.raises(UnsupportedOperatorError, match=r"operators of 'org\.example' are not known"):
        imported(net.file(tmp_path))


def test_second_results(tmp_path: Path) -> None:
    net = Net()
    net.op("Dropout", net.conv(4, 8))
    net.nodes[-1].output.append("mask")
    path = net.file(tmp_path)
    assert len(imported(path).graph.nodes) == 1
    net.op("Add", net.last, "mask")
    with pytest.raises(UnsupportedOperatorError, match="only first ones are known"):
        imported(net.file(tmp_path))


def test_another_input(tmp_path: Path) -> None:
    net = Net()
    net.conv(4, 8)
    path = net.file(tmp_path, input=[1, 4, 9, 9])
    with pytest.raises(InputError, match="is 1 x 4 x 9 x 9, which no batch of one image of 9 x 7"):
        imported(path)
    with pytest.raises(InputError, match="is 8 x 4 x 9 x 7"):
        imported(net.file(tmp_path, input=[8, 4, 9, 7]))


@pytest.mark.parametrize("seed", range(12))
def test_our_own_files_again(tmp_path: Path, seed: int) -> None:
    """The same network: equal outputs, where each operation is one of ONNX."""
    graph = random_graph(seed)
    path = tmp_path / "own.onnx"
    path.write_bytes(to_onnx(graph, batch=None).SerializeToString())
    shape = graph.value(graph.input).shape
    again = imported(path, (shape[0], shape[1], shape[2])).graph
    x = np.random.default_rng(seed).normal(size=(2, *shape)).astype(f32)
    before, after = run_with_bounds(optimize(graph), x), run_with_bounds(again, x)
    several = any(
        "channel_scale" in node.params
        or str(node.attrs.get("act")).startswith(("elu", "softplus"))
        or (node.op == "conv2d" and len(node.inputs) == 2 and node.attrs["act"] != "none")  # rounded between
        for node in graph.nodes
    )
    for a, b in zip(graph.outputs, again.outputs, strict=True):
        bound = before[a][1] + after[b][1] if several else 0.0
        assert (np.abs(before[a][0] - after[b][0]) <= bound).all()


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    from tests.boundary.declared import installed

    net = Net()
    net.conv(4, 8)
    code = f"""
import sys
sys.path.insert(0, {str(Path(onnx.__file__).parents[1])!r})
from subbyte.importers import import_model
from subbyte.preprocess import Preprocessing
import_model({str(net.file(tmp_path))!r}, preprocessing=Preprocessing(9, 7, (0.0,) * 4, (1.0,) * 4))
"""
    result = installed(code, "onnx")
    assert result.returncode == 0, result.stderr
