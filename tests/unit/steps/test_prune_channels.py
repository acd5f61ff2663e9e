"""Whole channels: which go together, that layers really shrink, and what the network computes then."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subbyte.errors import InputError
from subbyte.execute import reference
from subbyte.ir import Graph
from subbyte.prune.channels import channel_groups, without_channels
from subbyte.recipes import Pruning
from subbyte.steps.context import Context
from subbyte.steps.prune_channels import prune_channels
from tests.unit.compress.networks import FloatNetwork, efficientnet_like, random_images


def context(graph: Graph, **options: object) -> Context:
    torch.set_num_threads(1)
    asked = Pruning.model_validate(options)
    return Context(graph, graph, random_images(graph, 24), None, asked, 0, lambda stage, done: None)


def bottleneck() -> Graph:
    """A stem, and a block with a residual whose second layer reads and makes channels inside."""
    net = FloatNetwork((6, 6, 3))
    x = net.conv("stem", "image", 8, 3, "relu")
    y = net.conv("spatial", net.conv("narrow", x, 12, 1, "silu"), 10, 3, "relu")
    x = net.conv("widen", y, 8, residual=x)
    return net.graph(net.linear("classifier", net.flatten(net.pool(x)), 5))


def test_groups_follow_residuals_depthwise_layers_and_gates() -> None:
    graph = efficientnet_like()
    found = {channels.makers: channels for channels in channel_groups(graph)}
    assert ("expand", "depthwise", "excite") in found
    expanded = found["expand", "depthwise", "excite"]
    assert expanded.readers == ("squeeze", "project")
    residual = found["stem", "project"]
    assert residual.readers == ("expand", "head")
    assert found["squeeze",].readers == ("excite",)
    assert found["head",].readers == ("classifier",)
    assert len(found) == 4


def test_what_moves_channels_is_left_alone() -> None:
    net = FloatNetwork((4, 4, 3))
    x = net.conv("stem", "image", 8)
    a, b = net.conv("a", x, 4), net.conv("b", x, 4)
    x = net.emit("concat", (a, b), (4, 4, 8))
    x = net.conv("grouped", x, 8, 3, groups=2)
    graph = net.graph(net.conv("last", x, 3))
    assert [channels.makers for channels in channel_groups(graph)] == [("stem",)]


def test_without_channels_that_make_nothing_the_network_is_the_same() -> None:
    """Rows of zeros, biases too, of a group: equal outputs up to float32 sums in another order."""
    graph = efficientnet_like()
    (group,) = (c for c in channel_groups(graph) if "depthwise" in c.makers)
    kept = [0, 2, 3, 5, 8, 9, 13]
    gone = np.setdiff1d(np.arange(16), kept)
    nodes = []
    for node in graph.nodes:
        if node.name in ("expand", "depthwise"):
            params = {role: np.array(param) for role, param in node.params.items()}
            for param in params.values():
                param[gone] = 0.0
            node = node.with_(params=params)
        nodes.append(node)
    zeros = Graph(graph.input, graph.outputs, graph.values, tuple(nodes))
    small = without_channels(graph, group, kept)
    assert np.shape(small.node("project").params["weight"]) == (8, 1, 1, 7)
    assert small.node("depthwise").attrs["groups"] == 7
    images = random_images(graph, 4)
    for name in graph.outputs:
        expected = reference.run(zeros, images)[name]
        np.testing.assert_allclose(reference.run(small, images)[name], expected, rtol=1e-4, atol=1e-5)


def test_a_channel_that_is_a_copy_goes_for_nothing() -> None:
    """Two channels of a block are the same: one of them goes, and the other makes up for it."""
    net = FloatNetwork((6, 6, 3))
    x = net.conv("stem", "image", 8, 3, "relu")
    x = net.conv("project", net.conv("expand", x, 12, 1, "silu"), 8, residual=x)
    graph = net.graph(net.linear("classifier", net.flatten(net.pool(x)), 5))
    expand = graph.node("expand")
    for param in expand.params.values():
        np.asarray(param)[7] = np.asarray(param)[2]
    start = context(graph, damping=1e-6, rounds=100)
    small = prune_channels(start, 11 / 12, multiple=1)
    rows = np.asarray(small.node("expand").params["weight"]).reshape(11, -1)
    assert len(np.unique(rows, axis=0)) == 11
    for name in graph.outputs:
        expected = reference.run(graph, start.images)[name]
        # damping moves weights by the square root of its share of the energy, a thousandth, at most
        error = np.abs(reference.run(small, start.images)[name] - expected).max()
        assert error < 1e-2 * np.abs(expected).max()


@pytest.mark.parametrize("make", [efficientnet_like, bottleneck])
def test_layers_shrink_and_the_same_ones_by_seed(make) -> None:  # type: ignore[no-untyped-def]
    graph = make()
    small, again = (prune_channels(context(graph), 0.5, multiple=4) for _ in range(2))
    for node, other in zip(small.nodes, again.nodes, strict=True):
        for role, param in node.params.items():
            assert np.array_equal(np.asarray(param), np.asarray(other.params[role]))
    assert small.value(small.outputs[0]).shape == graph.value(graph.outputs[0]).shape
    inside = {"expand": 8, "depthwise": 8} if make is efficientnet_like else {"narrow": 8, "spatial": 8}
    for name, count in inside.items():
        assert np.shape(small.node(name).params["weight"])[0] == count
    stem = np.shape(graph.node("stem").params["weight"])
    assert np.shape(small.node("stem").params["weight"]) == stem
    assert np.isfinite(reference.run(small, random_images(graph, 2))[graph.outputs[0]]).all()


def test_everything_stays_where_all_is_left() -> None:
    graph = efficientnet_like()
    small = prune_channels(context(graph), 1.0)
    assert [n.params for n in small.nodes] == [n.params for n in graph.nodes]


@pytest.mark.parametrize(("share", "multiple"), [(0.0, 4), (1.5, 4), (0.5, 0)])
def test_shares_that_cannot_be(share: float, multiple: int) -> None:
    with pytest.raises(InputError, match="a share of channels above 0, at most 1, can be left"):
        prune_channels(context(efficientnet_like()), share, multiple)
