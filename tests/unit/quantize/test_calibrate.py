"""Weights of errors: squared gradients of a network's outputs, against its Jacobian."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subbyte.execute.torch import executor
from subbyte.ir import Graph, Node, Value
from subbyte.quantize.calibrate import calibrate
from subbyte.quantize.histogram import BINS, Histogram
from subbyte.quantize.ranges import choose_grid
from subbyte.recipes import ActivationRange


def network(seed: int = 0) -> Graph:
    """3 numbers, a hidden layer of 4 with SiLU, 2 outputs."""
    rng = np.random.default_rng(seed)

    def layer(name: str, source: str, shape: tuple[int, int], act: str) -> Node:
        weight = rng.normal(size=shape).astype(np.float32)
        params = {"weight": weight, "bias": rng.normal(size=shape[0]).astype(np.float32)}
        return Node(name, "linear", (source,), name, {"act": act}, params)

    nodes = (layer("hidden", "x", (4, 3), "silu"), layer("y", "hidden", (2, 4), "none"))
    values = {name: Value(name, (size,)) for name, size in (("x", 3), ("hidden", 4), ("y", 2))}
    return Graph("x", ("y",), values, nodes)


def test_weights_are_the_squared_jacobian_on_average() -> None:
    graph = network()
    image = np.array([[0.3, -1.0, 0.7]], np.float32)
    count = 4000
    seen = calibrate(graph, [np.repeat(image, 16, 0)] * (count // 16), 0, lambda *_: None, weighted=True)
    hidden = executor.run(graph, image, keep=True)["hidden"]
    weight = np.asarray(graph.node("y").params["weight"], np.float64)
    output = executor.run(graph, image)["y"]
    jacobian = weight / np.sqrt(np.square(output).mean())  # outputs count in units of their size
    wanted = float(np.square(jacobian).sum())
    # u·y has the variance Σ J²; its square, of a normal number, twice the square of that; 5 standard errors
    error = 5 * wanted * np.sqrt(2 / count)
    for name in ("hidden", "hidden:sum"):
        assert seen[name].weights.sum() / count == pytest.approx(wanted, abs=error)
    assert seen["hidden"].counts[seen["hidden"].weights > 0].sum() == count * hidden.size


def test_without_the_option_there_are_no_weights() -> None:
    images = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    seen = calibrate(network(), [images], 0, lambda *_: None)
    assert all(not histogram.weights.any() for histogram in seen.values())
    assert np.array_equal(seen["hidden"].points(weighted=True)[1], seen["hidden"].points()[1])


def test_growing_and_merging_keep_the_weights() -> None:
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(2)
    small, large = (torch.from_numpy(rng.normal(size=99).astype(np.float32)) * k for k in (1.0, 50.0))
    one, other = Histogram(), Histogram()
    for histogram, x in ((one, small), (other, large)):
        histogram.add(x, generator)
        histogram.weigh(x, x, generator)
    both = one.merged(other)
    assert both.weights.sum() == pytest.approx(float((small**2).sum() + (large**2).sum()))
    centres = (np.arange(BINS) + 0.5) * (2 * both.limit / BINS) - both.limit
    # each number is within half a bin of its bin's centre
    spread = both.limit / BINS * float((2 * large.abs() * large.square()).sum() + 1)
    assert (both.weights * centres**2).sum() == pytest.approx(
        float((small**4).sum() + (large**4).sum()), abs=spread
    )


def test_a_range_covers_what_matters() -> None:
    """Numbers that nothing depends on do not widen the grid; with "mse" they do."""
    generator = torch.Generator().manual_seed(3)
    near, far = torch.randn(1000, generator=generator), torch.full((1000,), 40.0)
    seen = Histogram()
    seen.add(torch.cat([near, far]), generator)
    seen.weigh(near, torch.ones(1000), generator)
    weighted, plain = (choose_grid(seen, ActivationRange(range=name), 8) for name in ("fisher", "mse"))
    assert weighted.high < 8.0 < 30.0 < plain.high
