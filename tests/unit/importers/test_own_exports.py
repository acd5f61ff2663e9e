"""What we export and import again computes our very integers, whatever grids the format asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from subbyte.artifact import own_grids
from subbyte.compress import compress
from subbyte.errors import UnsupportedOperatorError
from subbyte.execute.reference.executor import run
from subbyte.exporters import EXPORTERS
from subbyte.exporters.ranges import observe_ranges
from subbyte.importers import import_model
from subbyte.ir import Graph
from subbyte.passes import optimize
from subbyte.preprocess import Preprocessing
from subbyte.quant import QParams
from subbyte.recipes import load_recipe
from tests.unit.compress.networks import FloatNetwork, efficientnet_like, random_images

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnx_ir")
SIZE = 8


def resnet_like() -> Graph:
    """A padded max pool, a sum in front of an activation, a shortcut with a layer of its own."""
    net = FloatNetwork((SIZE, SIZE, 3), 4)
    x = net.conv("stem", "image", 8, 3, "relu")
    window = {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1, 1, 1)}
    x = net.emit("max_pool2d", (x,), (SIZE // 2, SIZE // 2, 8), attrs=window)
    y = net.conv("first", x, 8, 3, "relu")
    x = net.same("activation", net.conv("second", y, 8, 3, residual=x), act="relu")
    y = net.conv("third", x, 8, 3, "relu")
    shortcut = net.conv("shortcut", x, 8)
    x = net.same("activation", net.conv("fourth", y, 8, 3, residual=shortcut), act="relu")
    return net.graph(net.linear("classifier", net.flatten(net.pool(x)), 10))


def mobilenet_like() -> Graph:
    """Inverted bottlenecks with ReLU6, linear in the end, two residuals in a row."""
    net = FloatNetwork((SIZE, SIZE, 3), 5)
    x = net.conv("stem", "image", 8, 3, "relu6")
    for i in range(2):
        y = net.conv(f"expand{i}", x, 24, 1, "relu6")
        y = net.conv(f"depthwise{i}", y, 24, 3, "relu6", groups=24)
        x = net.conv(f"project{i}", y, 8, residual=x)
    x = net.conv("head", x, 32, 1, "relu6")
    return net.graph(net.linear("classifier", net.flatten(net.pool(x)), 10))


def hard_gated() -> Graph:
    """MobileNetV3's activations."""
    net = FloatNetwork((SIZE, SIZE, 3), 6)
    x = net.conv("stem", "image", 8, 3, "hard_swish")
    gate = net.conv("excite", net.conv("squeeze", net.pool(x), 4, 1, "relu"), 8, 1, "hard_sigmoid")
    x = net.conv("head", net.same("mul", x, gate), 16, 1, "hard_swish")
    return net.graph(net.linear("classifier", net.flatten(net.pool(x)), 10))


NETWORKS = [resnet_like, mobilenet_like, efficientnet_like, hard_gated]


def compressed(make: Callable[[], Graph]) -> tuple[Graph, np.ndarray]:
    graph = optimize(make())
    images = random_images(graph, 16)
    return compress(graph, load_recipe("w8a8"), [images]), images


def again(folder: Path, name: str, data: bytes) -> Graph:
    path = folder / f"network{EXPORTERS[name].suffix}"
    path.write_bytes(data)
    return import_model(path, preprocessing=Preprocessing(SIZE, SIZE, (0.0,) * 3, (1.0,) * 3)).graph


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("name", ["qdq", "tflite"])
def test_the_integers_are_equal(tmp_path: Path, name: str, make: Callable[[], Graph]) -> None:
    graph, images = compressed(make)
    data = EXPORTERS[name].export(graph, ranges=observe_ranges(graph, [images]))
    (expected,), (actual,) = (run(one, images).values() for one in (graph, again(tmp_path, name, data)))
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("balanced", [False, True])
def test_the_gates_of_an_exact_model_come_back(tmp_path: Path, balanced: bool) -> None:
    graph, images = compressed(efficientnet_like)
    if balanced:
        factors = np.float32(2.0) ** np.linspace(-1, 0, 16, dtype=np.float32)
        nodes = [n.with_(params={"channel_scale": factors}) if n.op == "mul" else n for n in graph.nodes]
        graph = replace(graph, nodes=tuple(nodes))
    data = EXPORTERS["qdq"].export(graph, exact=True)
    found = again(tmp_path, "qdq", data)
    assert sorted(node.op for node in found.nodes) == sorted(node.op for node in graph.nodes)
    (expected,), (actual,) = (run(one, images).values() for one in (graph, found))
    np.testing.assert_array_equal(actual, expected)
    with pytest.raises(UnsupportedOperatorError, match="Round"):
        again(tmp_path, "qdq", data.replace(own_grids.KEY.encode(), b"another.notes"))


def test_factors_of_a_gate_come_back_from_qdq(tmp_path: Path) -> None:
    graph, images = compressed(efficientnet_like)
    factors = np.float32(2.0) ** np.linspace(-1, 0, 16, dtype=np.float32)
    nodes = [n.with_(params={"channel_scale": factors}) if n.op == "mul" else n for n in graph.nodes]
    graph = replace(graph, nodes=tuple(nodes))
    found = again(tmp_path, "qdq", EXPORTERS["qdq"].export(graph))
    (gate,) = (node for node in found.nodes if node.op == "mul")
    np.testing.assert_array_equal(gate.params["channel_scale"], factors)
    (expected,), (actual,) = (run(one, images).values() for one in (graph, found))
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("name", ["qdq", "tflite"])
def test_without_the_note_a_file_is_what_it_says(tmp_path: Path, name: str) -> None:
    graph, images = compressed(mobilenet_like)
    data = EXPORTERS[name].export(graph, ranges=observe_ranges(graph, [images]))
    assert data.count(own_grids.KEY.encode()) == 1
    found = again(tmp_path, name, data.replace(own_grids.KEY.encode(), b"another.notes"))
    assert sum(node.op == "add" for node in found.nodes) == 2  # sums are rounded first, as other runtimes do
    assert not any(node.op == "add" for node in again(tmp_path, name, data).nodes)


def test_the_note_says_what_was_written_and_nothing_of_another_text() -> None:
    grids = {"a": None, "b/sum": QParams(float(np.float32(0.1)), 7)}
    assert own_grids.from_text(own_grids.to_text(grids)) == grids
    for text in (
        *("", "[]", "{", "7", '{"a": 1}', '{"a": [1.0]}', '{"a": [1.0, 0, 8, null, 1]}', '{"a": [0.1, 0]}'),
        *(
            '{"a": [1.0, 300]}',
            '{"a": ["1", 0]}',
            '{"a": "no"}',
            "[" * 100_000,
            " " * (own_grids.MAX_TEXT + 1),
        ),
    ):
        assert own_grids.from_text(text) == {}
