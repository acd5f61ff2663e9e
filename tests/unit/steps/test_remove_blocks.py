"""Residual blocks that go: which first, what is left, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from subbyte.compress import compress
from subbyte.device import find_target
from subbyte.device.network import as_quantized, price
from subbyte.errors import InputError
from subbyte.execute import reference
from subbyte.ir import Graph
from subbyte.recipes import Recipe
from subbyte.steps.remove_blocks import joins, work
from tests.unit.compress.networks import FloatNetwork, random_images


def recipe(**options: Any) -> Recipe:
    table = {"name": "cut", "precision": "fp32", "steps": ["remove_blocks"], "remove_blocks": options}
    return Recipe.model_validate(table)


def three_blocks(silent: str = "") -> Graph:
    """A stem and blocks a, b, c, of which `silent` adds nothing; c joins by a node of its own."""
    net = FloatNetwork((6, 6, 3))
    x = net.conv("stem", "image", 8, 1, "relu6")
    for name in "abc":
        y = net.conv(f"{name}.in", x, 16, 1, "relu6")
        out = f"{name}.out"
        x = net.conv(out, y, 8, residual=x) if name != "c" else net.same("add", net.conv(out, y, 8), x)
    graph = net.graph(net.linear("head", net.flatten(net.pool(x)), 5))
    for node in graph.nodes:
        if node.name == f"{silent}.out":
            for param in node.params.values():
                np.asarray(param)[:] = 0.0
    return graph


@pytest.mark.parametrize("silent", ["a", "b", "c"])
def test_the_block_that_adds_nothing_goes_first(silent: str) -> None:
    graph = three_blocks(silent)
    images = random_images(graph, 4)
    left = compress(graph, recipe(share=0.9), [images])
    names = {node.name for node in left.nodes}
    assert [name for name in ("a.in", "b.in", "c.in") if name not in names] == [f"{silent}.in"]
    assert len(list(joins(left))) == 2
    (name,) = graph.outputs
    np.testing.assert_array_equal(reference.run(left, images)[name], reference.run(graph, images)[name])


def test_as_many_go_as_the_share_asks_for() -> None:
    graph = three_blocks()
    for share, blocks in ((1.0, 3), (0.9, 2), (0.5, 1), (0.3, 0)):
        left = compress(graph, recipe(share=share), [random_images(graph, 4)])
        assert len(list(joins(left))) == blocks
        assert work(left) <= share * work(graph)


@pytest.mark.parametrize("cost", ["time", "energy"])
def test_work_is_what_a_device_takes(cost: str) -> None:
    graph = three_blocks()
    whole = price(find_target("v2-npu"), as_quantized(graph))
    for share in (0.9, 0.8):
        asked = recipe(share=share, target="v2-npu", cost=cost)
        found = price(find_target("v2-npu"), as_quantized(compress(graph, asked, [random_images(graph, 4)])))
        assert getattr(found, cost) <= share * getattr(whole, cost)
        assert getattr(found, cost) < getattr(whole, cost)


def test_the_block_that_takes_most_goes_first() -> None:
    net = FloatNetwork((6, 6, 3))
    x = net.conv("stem", "image", 8, 1, "relu6")
    for name, wide in (("a", 16), ("b", 32), ("c", 24)):
        x = net.conv(f"{name}.out", net.conv(f"{name}.in", x, wide, 1, "relu6"), 8, residual=x)
    graph = net.graph(net.linear("head", net.flatten(net.pool(x)), 5))
    for share, gone in ((0.9, {"b.in"}), (0.5, {"b.in", "c.in"})):
        left = compress(graph, recipe(share=share, by="work"), [random_images(graph, 4)])
        names = {node.name for node in left.nodes}
        assert {"a.in", "b.in", "c.in"} - names == gone


def test_a_device_that_does_not_say_is_one_error() -> None:
    graph = three_blocks()
    images = [random_images(graph, 4)]
    with pytest.raises(InputError, match="there is no device 'abacus'"):
        compress(graph, recipe(target="abacus"), images)
    with pytest.raises(InputError, match=r"the time on v2-npu is left, more than the 0\.01"):
        compress(graph, recipe(target="v2-npu", share=0.01), images)


def test_what_cannot_be_is_one_error() -> None:
    graph = three_blocks()
    images = [random_images(graph, 4)]
    with pytest.raises(InputError, match=r"without any residual block 0\.\d+ .* left, more than the 0\.01"):
        compress(graph, recipe(share=0.01), images)
    with pytest.raises(InputError, match="outputs has 2 weights; the network has 1 outputs"):
        compress(graph, recipe(outputs=[1.0, 1.0]), images)
