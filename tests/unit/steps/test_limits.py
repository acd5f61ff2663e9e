"""Beyond its limit a scale leaves one or two codes, or cuts off all that is not zero."""

from __future__ import annotations

import math

import numpy as np
import pytest

from subbyte.compress import compress
from subbyte.errors import DivergenceError
from subbyte.quant import QTensor
from subbyte.recipes import Recipe
from subbyte.steps.learned import Learned
from subbyte.steps.limits import limits, weight_bits
from tests.unit.compress.networks import efficientnet_like, random_images


def recipe(weights: int, activations: int, levels: str = "uniform", **distill: object) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "test",
            "weights": {"bits": weights, "levels": levels},
            "activations": {"bits": activations},
            "steps": ("distill",) if distill else (),
            "distill": distill or {"steps": 1},
        }
    )


def nearest(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    return levels[np.abs(values[:, None] - levels).argmin(1)]


@pytest.mark.parametrize("levels", ["uniform", "symmetric", "learned"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_what_is_left_of_a_code_book(bits: int, levels: str) -> None:
    graph = efficientnet_like()
    rounded = compress(graph, recipe(bits, 4, levels), [random_images(graph, 8)])
    learned = Learned(rounded, {node.name: node for node in graph.nodes})
    found = limits(learned)
    assert found["scale"].keys() == learned.parameters["scale"].keys()
    assert found["grid"].keys() == learned.parameters["grid"].keys()
    assert found["grid"]
    assert all(limit == pytest.approx(math.log(30)) for limit in found["grid"].values())
    for node in rounded.nodes:
        weight = node.params.get("weight")
        if node.name not in found["scale"]:
            continue
        assert isinstance(weight, QTensor)
        book = np.unique(weight.levels).astype(np.float64)
        span = np.linspace(book[0], book[-1], 1001)
        factor = 1.001 * math.exp(found["scale"][node.name])
        assert len(np.unique(nearest(span / factor, book))) <= 2  # a scale that has grown
        shrunk = nearest(span * factor, book)
        outside = np.abs(span) > np.diff(book).min() / 2
        assert set(shrunk[outside]) <= {book[0], book[-1]}


def test_the_mean_width_counts_weights() -> None:
    graph = efficientnet_like()
    rounded = compress(graph, recipe(2, 8), [random_images(graph, 8)])
    learned = Learned(rounded, {node.name: node for node in graph.nodes})
    weights = [n.params["weight"] for n in rounded.nodes if isinstance(n.params.get("weight"), QTensor)]
    assert all(isinstance(weight, QTensor) for weight in weights)
    widths = [
        weight.bits for weight in weights if isinstance(weight, QTensor) for _ in range(weight.codes.size)
    ]
    assert weight_bits(learned) == pytest.approx(float(np.mean(widths)), rel=1e-12)


def test_distillation_at_a_wild_rate_is_one_error_that_names_layer_and_parameter() -> None:
    graph = efficientnet_like()
    wild = recipe(2, 8, steps=60, batch=8, scale=1.0)
    with pytest.raises(DivergenceError) as error:
        compress(graph, wild, [random_images(graph, 16)])
    text = str(error.value)
    assert text.startswith("training diverged in step ")
    assert "the scale of layer '" in text
    assert "lower the rate 'scale' (now 1), or set clip" in text
    assert "\n" not in text
