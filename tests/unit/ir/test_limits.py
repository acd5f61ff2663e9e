"""What a graph may demand: the sums are right, the bounds bite, and real sizes fit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from subbyte.errors import GraphError
from subbyte.ir import OPS, Graph, Node, Value, verify
from subbyte.ir.limits import (
    MAX_LIVE_BYTES,
    MAX_PARAMETERS,
    MAX_WORK,
    peak_live_bytes,
    value_bytes,
)
from subbyte.quant import QParams

f32 = np.float32


def graph(shape: tuple[int, ...], *nodes: Node, outputs: tuple[str, ...], **shapes: tuple[int, ...]) -> Graph:
    values = {"image": Value("image", shape)} | {name: Value(name, s) for name, s in shapes.items()}
    return Graph("image", outputs, values, nodes)


def conv(channels: int, kernel: int, inputs: int) -> Node:
    attrs = {"stride": (1, 1), "pad": (kernel // 2,) * 4, "groups": 1, "act": "none"}
    weight = np.zeros((channels, kernel, kernel, inputs), f32)
    return Node("conv", "conv2d", ("image",), "y", attrs, {"weight": weight, "bias": np.zeros(channels, f32)})


def test_work_counts_every_product() -> None:
    assert OPS["conv2d"].work(conv(5, 3, 2), (4, 6, 5), []) == 4 * 6 * 5 * 3 * 3 * 2
    pool = Node("pool", "max_pool2d", ("image",), "y", {"kernel": (2, 3)})
    assert OPS["max_pool2d"].work(pool, (4, 6, 5), []) == 4 * 6 * 5 * 2 * 3
    assert OPS["add"].work(Node("add", "add", ("a", "b"), "y"), (4, 6, 5), []) == 120


def test_bytes_round_channels_up_to_16() -> None:
    assert value_bytes(Value("y", (2, 3, 17))) == 2 * 3 * 32 * 4
    assert value_bytes(Value("y", (2, 3, 17), QParams(1.0, 0))) == 2 * 3 * 32
    assert value_bytes(Value("y", (16,), QParams(1.0, 0, 4))) == 16


def test_peak_counts_what_is_still_needed() -> None:
    """image feeds a and, later, c; a dies after b; the output d lives on."""
    size = 16 * 4
    nodes = (
        Node("a", "add", ("image", "image"), "a"),
        Node("b", "add", ("a", "a"), "b"),
        Node("c", "add", ("image", "b"), "c"),
        Node("d", "add", ("c", "c"), "d"),
    )
    shapes = dict.fromkeys("abcd", (1, 1, 16))
    assert peak_live_bytes(graph((1, 1, 16), *nodes, outputs=("d",), **shapes)) == 3 * size
    assert peak_live_bytes(graph((1, 1, 16), *nodes, outputs=("a", "b", "d"), **shapes)) == 4 * size
    assert peak_live_bytes(graph((1, 1, 16), *nodes[:1], outputs=("a",), a=(1, 1, 16))) == 2 * size


def test_dead_values_do_not_accumulate() -> None:
    nodes = tuple(Node(f"n{i}", "add", ("image", "image"), f"n{i}") for i in range(9))
    shapes = {f"n{i}": (1, 1, 16) for i in range(9)}
    assert peak_live_bytes(graph((1, 1, 16), *nodes, outputs=("n8",), **shapes)) == 2 * 64


def test_a_4k_image_through_one_convolution_passes() -> None:
    verify(graph((2160, 3840, 3), conv(32, 3, 3), outputs=("y",), y=(2160, 3840, 32)))


def test_too_many_parameters() -> None:
    weight = np.broadcast_to(f32(0), (65536, 4096))  # one float in memory
    params = {"weight": weight, "bias": np.zeros(65536, f32)}
    assert weight.size == MAX_PARAMETERS
    node = Node("fc", "linear", ("v",), "y", {"act": "none"}, params)
    flat = Node("flat", "flatten", ("image",), "v")
    with pytest.raises(GraphError, match="parameters; at most 268435456"):
        verify(graph((64, 64, 1), flat, node, outputs=("y",), v=(4096,), y=(65536,)))


def test_too_much_work() -> None:
    shape = (4096, 1024, 64)
    node = conv(64, 15, 64)
    nodes = [node, *(node.with_(name=f"c{i}", inputs=("y",), output=f"c{i}") for i in range(5))]
    shapes = {"y": shape} | {f"c{i}": shape for i in range(5)}
    assert 6 * OPS[node.op].work(node, shape, []) > MAX_WORK
    with pytest.raises(GraphError, match="operations per image"):
        verify(graph(shape, *nodes, outputs=("c4",), **shapes))


def test_a_huge_pooling_window_is_work_too() -> None:
    shape = (4096, 4096, 4)
    attrs = {"kernel": (15, 15), "stride": (1, 1), "pad": (7,) * 4}
    nodes = [Node("p0", "max_pool2d", ("image",), "p0", attrs)]
    nodes += [Node(f"p{i}", "max_pool2d", (f"p{i - 1}",), f"p{i}", attrs) for i in range(1, 300)]
    shapes = {f"p{i}": shape for i in range(300)}
    assert 300 * 15 * 15 * math.prod(shape) > MAX_WORK
    with pytest.raises(GraphError, match="operations per image"):
        verify(graph(shape, *nodes, outputs=("p299",), **shapes))


def test_too_much_memory() -> None:
    shape = (8192, 8192, 1)
    node = Node("a", "add", ("image", "image"), "a")
    assert MAX_LIVE_BYTES == 8192 * 8192 * 16 * 4
    with pytest.raises(GraphError, match="bytes of activations alive"):
        verify(graph(shape, node, outputs=("a",), a=shape))
