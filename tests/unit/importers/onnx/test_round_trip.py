"""What our exporter writes, imported again: the same network, and the same integers once it is compressed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from subbyte.compress import compress
from subbyte.execute.reference.executor import run
from subbyte.exporters.onnx import to_onnx
from subbyte.ir import Graph, is_weighted
from subbyte.passes import optimize
from subbyte.quant import QTensor
from subbyte.recipes import load_recipe
from tests.unit.compress.networks import FloatNetwork, efficientnet_like, random_images
from tests.unit.importers.onnx.network import imported


def lite_like() -> Graph:
    """Clamps for functions, no squeeze-and-excitation, a residual, a classifier."""
    net = FloatNetwork((8, 8, 3), 3)
    x = net.conv("stem", "image", 8, 3, "relu6")
    y = net.conv("expand", x, 16, 1, "relu6")
    y = net.conv("depthwise", y, 16, 3, "relu6", groups=16)
    x = net.conv("project", y, 8, residual=x)
    x = net.conv("head", x, 24, 1, "relu6")
    return net.graph(net.linear("classifier", net.flatten(net.pool(x)), 10))


@pytest.mark.parametrize("make", [efficientnet_like, lite_like])
def test_compressed_it_has_the_same_integers(tmp_path: Path, make: Callable[[], Graph]) -> None:
    graph = optimize(make())
    path = tmp_path / "own.onnx"
    path.write_bytes(to_onnx(graph, batch=None).SerializeToString())
    again = imported(path, (8, 8, 3)).graph
    images, recipe = random_images(graph, 16), load_recipe("w8a8")
    (before,), (after,) = run(graph, images).values(), run(again, images).values()
    np.testing.assert_array_equal(before, after)
    first, second = (compress(one, recipe, [images]) for one in (graph, again))
    for a, b in zip(filter(is_weighted, first.nodes), filter(is_weighted, second.nodes), strict=True):
        left, right = a.params["weight"], b.params["weight"]
        assert isinstance(left, QTensor)
        assert isinstance(right, QTensor)
        np.testing.assert_array_equal(left.codes, right.codes)
        np.testing.assert_array_equal(a.params["bias"], b.params["bias"])
    (before,), (after,) = run(first, images).values(), run(second, images).values()
    np.testing.assert_array_equal(before, after)
