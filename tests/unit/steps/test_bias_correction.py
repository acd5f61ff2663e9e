"""Shrinking of corrections that few images know badly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subbyte.ir import Graph, Node
from subbyte.quant import weight_format
from subbyte.quantize.variants import Variants
from subbyte.recipes import load_recipe
from subbyte.steps.bias_correction import Walk, corrected
from tests.unit.compress.networks import efficientnet_like, random_images


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def graph() -> Graph:
    variants = Variants(efficientnet_like(), load_recipe("w8a8"))
    variants.calibrate([random_images(variants.graph, 24)], lambda stage, done: None)
    return variants.quantized({"classifier": weight_format(4)})


def shifts(graph: Graph, images: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is added to the classifier's bias, plain and shrunk, for these errors of its outputs [N, 10]."""
    walk, node = Walk(graph, images), graph.node("classifier")
    with torch.no_grad():
        while (following := next(walk.pending)).name != "classifier":
            walk.execute(following)
        exact = walk.execute(following) + torch.from_numpy(errors.astype(np.float32))
        # its input was freed after its last use
        again = Walk(graph, images)
        while (following := next(again.pending)).name != "classifier":
            again.execute(following)
        step, x = again.step(node), again.live[node.inputs[0]]
        made: list[Node] = [corrected(step, x, exact, shrink=shrink) for shrink in (False, True)]
    old = np.asarray(node.params["bias"])
    plain, shrunk = (np.asarray(new.params["bias"]) - old for new in made)
    return plain, shrunk


def test_what_all_images_agree_on_is_kept(graph: Graph) -> None:
    images = random_images(graph, 6)
    plain, shrunk = shifts(graph, images, np.full((6, 10), 0.25))
    np.testing.assert_array_equal(plain, shrunk)
    assert (plain != 0).all()


def test_a_shift_is_weighed_by_its_standard_error(graph: Graph) -> None:
    rng = np.random.default_rng(5)
    errors = rng.normal(0.02, 0.2, size=(8, 10))
    plain, shrunk = shifts(graph, random_images(graph, 8), errors)
    weight, x = graph.node("classifier").params["weight"], graph.value("flatten10:out").q
    assert x is not None
    unit = x.scale * weight.scale.astype(np.float64)  # type: ignore[union-attr]
    mean, squared = errors.mean(0), ((errors - errors.mean(0)) ** 2).sum(0) / 64
    # biases are whole numbers of units; sums are float32
    np.testing.assert_allclose(plain * unit, mean, atol=0.51 * unit.max() + 1e-5)
    np.testing.assert_allclose(
        shrunk * unit, mean * mean**2 / (mean**2 + squared), atol=0.51 * unit.max() + 1e-5
    )
    assert np.abs(shrunk).sum() < np.abs(plain).sum()
