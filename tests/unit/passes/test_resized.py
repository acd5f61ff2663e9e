"""Images of another size: what changes in a graph, and which networks do not fit."""

from __future__ import annotations

import numpy as np
import pytest
from torch.nn import functional as F

from subbyte.errors import InputError
from subbyte.execute import reference
from subbyte.execute.torch import executor as torch_executor
from subbyte.ir.ops import macs
from subbyte.passes.resized import resized
from subbyte.steps.losses import fitted
from subbyte.steps.teacher import block_pairs
from tests.unit.compress.networks import FloatNetwork, efficientnet_like, random_images


def test_work_falls_with_the_area_and_weights_stay() -> None:
    graph = efficientnet_like()
    small = resized(graph, 4, 6)
    assert small.value("project:out").shape == (4, 6, 8)
    before, after = macs(graph), macs(small)
    for name in ("stem", "expand", "depthwise", "project", "head"):
        assert after[name] * 64 == before[name] * 24
    for name in ("squeeze", "classifier"):
        assert after[name] == before[name]
    for old, new in zip(graph.nodes, small.nodes, strict=True):
        assert old is new


def test_a_constant_image_is_the_same_at_any_size() -> None:
    """Where no border is seen, a network answers alike, up to float32 sums of other counts."""
    net = FloatNetwork((8, 8, 3))
    x = net.conv("b", net.conv("a", "image", 8, 1, "relu6"), 8, 1)
    graph = net.graph(net.linear("head", net.flatten(net.pool(x)), 5))
    images = np.tile(np.array([0.3, -1.0, 2.0], np.float32), (1, 8, 8, 1))
    (name,) = graph.outputs
    expected = reference.run(graph, images)[name]
    made = reference.run(resized(graph, 3, 5), images[:, :3, :5])[name]
    np.testing.assert_allclose(made, expected, rtol=1e-5)


def test_the_size_it_has_changes_nothing() -> None:
    graph = efficientnet_like()
    same = resized(graph, 8, 8)
    assert (same.values, same.nodes) == (graph.values, graph.nodes)


def test_what_does_not_fit_is_one_error() -> None:
    net = FloatNetwork((4, 4, 3))
    whole = net.graph(net.linear("all", net.flatten("image"), 5))
    with pytest.raises(InputError, match=r"does not fit images of 3 x 4: .*'all'"):
        resized(whole, 3, 4)
    net = FloatNetwork((4, 4, 3))
    dense = net.graph(net.conv("mask", "image", 2, 3))
    with pytest.raises(InputError, match=r"output 'mask:out' would have the shape \(3, 3, 2\)"):
        resized(dense, 3, 3)
    net = FloatNetwork((4, 4, 3))
    sized = net.emit("resize_nearest", ("image",), (8, 8, 3), attrs={"size": (8, 8), "mode": "half_pixel"})
    with pytest.raises(InputError, match="makes maps of a size of its own"):
        resized(net.graph(net.linear("head", net.flatten(net.pool(sized)), 2)), 5, 5)


def test_a_teacher_of_larger_images_teaches_by_resized_maps() -> None:
    """The features that losses compare are the teacher's, at the student's size."""
    graph = efficientnet_like()
    small = resized(graph, 4, 4)
    assert block_pairs(small, graph) == [(name, name) for name in ("stem:out", "project:out")]
    maps = torch_executor.nchw(random_images(graph, 2))
    assert fitted(maps, maps) is maps
    expected = F.interpolate(maps, (4, 4), mode="bilinear", antialias=True)
    assert fitted(maps, maps[:, :, :4, :4]).equal(expected)
