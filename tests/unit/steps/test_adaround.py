"""Rounding down or up: between the two neighbouring levels, and on one of them in the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from subbyte.compress import compress
from subbyte.quant import QTensor
from subbyte.quantize.weights import usable
from subbyte.steps.adaround import Between, exponent, share, undecided
from subbyte.steps.learned import Learned
from tests.unit.compress.networks import efficientnet_like, random_images
from tests.unit.steps.test_training import recipe, same

BOOK = np.array([-127, -40, 0, 9, 30, 127], np.int8)


def test_a_weight_starts_where_it_is_between_its_neighbours() -> None:
    steps = torch.tensor([[-200.0, -127.0, -50.0], [4.5, 9.0, 126.9], [127.0, 300.0, 0.0]])
    between = Between(steps, BOOK[::-1])
    assert between.lower.tolist() == [[-127, -127, -127], [0, 9, 30], [127, 127, 0]]
    assert (between.lower + between.gap).tolist() == [[-127, -40, -40], [9, 30, 127], [127, 127, 9]]
    # logit and sigmoid err by a few of 2^-24 of h, which is a share of a gap of 97 levels at most
    assert (between.soft(between.start) - steps.clamp(-127, 127)).abs().max() < 97 * 16 * 2.0**-24
    assert between.hard(between.start).tolist() == [[-127, -127, -40], [9, 9, 127], [127, 127, 0]]


def test_it_never_leaves_them_and_the_ends_are_reached() -> None:
    between = Between(torch.linspace(-200, 200, 101), BOOK)
    for v in (-100.0, -2.5, 0.0, 2.5, 100.0):
        argument = torch.full((101,), v)
        for made in (between.soft(argument), between.hard(argument)):
            assert (made >= between.lower).all()
            assert (made <= between.lower + between.gap).all()
    assert share(torch.tensor([-2.5, 0.0, 2.5])).tolist() == [0.0, 0.5, 1.0]


def test_the_regularizer_and_its_exponent() -> None:
    assert float(undecided(torch.zeros(4), 20.0)) == 1.0
    assert float(undecided(torch.tensor([-9.0, 9.0]), 2.0)) == 0.0
    v = torch.tensor([-1.0, -0.1, 0.1, 1.0], requires_grad=True)
    undecided(v, 2.0).backward()
    assert v.grad is not None
    assert v.grad.sign().tolist() == [1.0, 1.0, -1.0, -1.0]  # away from a half
    # a cosine's first quarter holds 1/4 + sin(π/4)/π = 0.475 of the sum of rates, its first half 0.5 + 1/π
    for done, moved in ((0.25, 0.25 + 0.5**0.5 / np.pi), (0.5, 0.5 + 1.0 / np.pi), (1.0, 1.0)):
        assert exponent(done, 0.2, (20.0, 2.0)) == pytest.approx(20.0 - 18.0 * (moved - 0.2) / 0.8)
        assert (exponent(done, 0.48, (20.0, 2.0)) is None) == (moved < 0.48)
    assert exponent(0.0, 0.0, (20.0, 2.0)) == 20.0


def neighbours(weight: QTensor, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The levels at and below, and above, each float weight; one twice beyond the ends."""
    grid = np.unique(usable(weight.levels)).astype(np.float64)
    steps = real / weight.scale.reshape(-1, *[1] * (real.ndim - 1))
    index = np.searchsorted(grid, steps, side="right") - 1
    return grid[index.clip(0, len(grid) - 1)], grid[(index + 1).clip(0, len(grid) - 1)]


@pytest.mark.parametrize("levels", ["uniform", "learned"])
def test_a_network_gets_neighbouring_levels_and_no_rounding_stays_open(levels: str, tmp_path: Path) -> None:
    graph = efficientnet_like()
    images = random_images(graph, 32)
    # the rates of scales are 0, as in the paper, so that steps between levels stay what they were
    options = {"rounding": "adaround", "steps": 600, "batch": 8, "weight": 0.1, "scale": 0.0}
    before = compress(graph, recipe(weights=3, levels=levels), [images])
    asked = recipe("reconstruct", weights=3, levels=levels, reconstruct=options)
    after = compress(graph, asked, [images], work=tmp_path)
    moved = 0
    for node in after.nodes:
        weight, rounded = node.params.get("weight"), before.node(node.name).params.get("weight")
        if isinstance(weight, QTensor) and isinstance(rounded, QTensor):
            low, high = neighbours(weight, np.asarray(graph.node(node.name).params["weight"], np.float64))
            made = weight.values()
            assert ((made == low) | (made == high)).all(), node.name
            moved += int((made != rounded.values()).sum())
    assert moved > 0
    states = [torch.load(path, weights_only=True)["weight"] for path in tmp_path.rglob("*.pt")]
    h = torch.cat([share(v).flatten() for named in states for v in named.values()])
    open_still = int(((h > 0.0) & (h < 1.0)).sum())
    print(f"{open_still} of {len(h)} roundings are open, {moved} are other than the nearest")
    assert open_still == 0


def test_it_starts_at_the_graphs_own_codes() -> None:
    """Also at those that an earlier step chose, which are not the nearest."""
    graph = efficientnet_like()
    images = random_images(graph, 16)
    original = {node.name: node for node in graph.nodes}
    for asked in (recipe(weights=2), recipe("reconstruct", weights=2), recipe(weights=8)):
        made = compress(graph, asked, [images])
        assert same(Learned(made, original, rounding="adaround").result(), made)
