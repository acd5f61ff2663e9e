"""Which share of its blocks each layer keeps: the integer program, and the rises that it is given."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from subbyte.allocate.densities import PERCENTS, densities, distributed
from subbyte.errors import InputError, RecipeError
from subbyte.ir import Graph
from subbyte.ir.ops import macs
from subbyte.prune.layout import blocks_kept, layout_of, magnitude
from subbyte.quant import Format
from subbyte.quant.packing import pack, packed_size, unpack
from subbyte.quant.pattern import Pattern
from subbyte.recipes import Pruning
from subbyte.steps import prune
from subbyte.steps.context import Context
from subbyte.steps.prune import rises
from tests.unit.compress.networks import FloatNetwork, efficientnet_like, random_images

PRUNED = ("expand", "project", "head")


def context(graph: Graph, name: str, **options: object) -> Context:
    layout = layout_of(name)

    def mask(weight: np.ndarray) -> np.ndarray:
        return layout.spread(blocks_kept(magnitude(weight, layout), weight.shape, layout), weight.shape)

    pattern = Pattern(name, lambda shape, bits: packed_size(math.prod(shape), bits), pack, unpack, mask)
    formats = {node.name: Format("int", 8, pattern=pattern) for node in graph.nodes if node.name in PRUNED}
    images, asked = random_images(graph, 24), Pruning.model_validate(options)
    torch.set_num_threads(1)
    return Context(graph, graph, images, None, asked, 0, lambda stage, done: None, formats=formats)


def test_the_least_rise_within_the_work_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    percents = (100, 50, 25)
    for _ in range(5):
        work = {name: float(rng.uniform(1, 9)) for name in "abcd"}
        rise = {
            name: dict(zip(percents, np.cumsum([0.0, *rng.uniform(0, 2, 2)]).tolist(), strict=True))
            for name in work
        }
        found = densities(rise, work, 0.6)
        total = sum(work.values())
        fitting = [
            sum(rise[name][percent] for name, percent in zip(work, choice, strict=True))
            for choice in itertools.product(percents, repeat=4)
            if sum(work[name] * p for name, p in zip(work, choice, strict=True)) <= 60.0 * total
        ]
        # the solver may stop within 1e-4 of the least
        assert sum(rise[name][p] for name, p in found.items()) <= min(fitting) * (1 + 2e-4)
        assert sum(work[name] * p for name, p in found.items()) <= 60.0 * total * (1 + 1e-6)


def test_work_may_be_measured_by_per_cent() -> None:
    """A layer that is no faster at 50 than whole stays whole, though it loses less by it than the other."""
    rise = {"a": {100: 0.0, 50: 0.1}, "b": {100: 0.0, 50: 1.0}}
    assert densities(rise, {"a": 4.0, "b": 4.0}, 0.8) == {"a": 50, "b": 100}
    assert densities(rise, {"a": {100: 4.0, 50: 4.5}, "b": {100: 4.0, 50: 2.0}}, 0.8) == {"a": 100, "b": 50}
    with pytest.raises(InputError, match="no densities leave 50 % of the work; at least 75 % stays"):
        densities(rise, {"a": {100: 4.0, 50: 4.5}, "b": {100: 4.0, 50: 2.0}}, 0.5)


def test_too_little_is_refused() -> None:
    with pytest.raises(InputError, match="no densities leave 20 % of the work; at least 25 % stays"):
        densities({"a": {100: 0.0, 25: 1.0}}, {"a": 1.0}, 0.2)


@pytest.mark.parametrize("act", ["none", "silu"])
def test_rises_are_what_the_layer_s_error_becomes(act: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all outputs count 1, and slopes do not, of sums before the activation, over all positions;
    damping this small adds nothing that float32 sums would show."""
    net = FloatNetwork((3, 3, 8))
    graph = net.graph(net.conv("head", "image", 8, act=act))
    monkeypatch.setattr("subbyte.steps.prune.counts_of", lambda context, images: {"head": np.ones(8)})
    options = {"damping": 1e-9, "rows": 1e6, "slopes": False}
    found = rises(context(graph, "2x4:50", **options), (100, 50))["head"]
    start = context(graph, "2x4:50", **options, target="own", outputs="equal")
    made, exact = prune.run(start).node("head"), graph.node("head")
    x = start.images.reshape(-1, 8).astype(np.float64)
    sums = [x @ np.asarray(n.params["weight"]).reshape(8, 8).T + n.params["bias"] for n in (made, exact)]
    assert found[100] == 0.0
    np.testing.assert_allclose(found[50], ((sums[0] - sums[1]) ** 2).sum() / len(start.images), rtol=1e-4)


def test_patterns_for_a_share_of_all_work() -> None:
    graph = efficientnet_like()
    start = context(graph, "2x4:50")
    work = {name: macs(graph)[name] for name in PRUNED}
    assert work["expand"] == 8 * 8 * 8 * 16
    found = distributed(start, 0.6)
    assert set(found) == set(PRUNED)
    percents = {
        name: 100 if text == "dense" else int(text.removeprefix("2x4:")) for name, text in found.items()
    }
    assert set(percents.values()) <= set(PERCENTS)
    assert sum(work[name] * percent for name, percent in percents.items()) <= 60.0001 * sum(work.values())
    assert found == distributed(start, 0.6)
    lone = distributed(start, 0.5, {"expand": 1.0, "project": 1e-9, "head": 1e-9})
    assert lone["expand"] == "2x4:50"


def test_groups_are_not_distributed() -> None:
    with pytest.raises(RecipeError, match="of layer 'expand' blocks are to stay"):
        rises(context(efficientnet_like(), "2:4"), PERCENTS)
