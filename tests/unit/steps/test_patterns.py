"""Training keeps the weights that a sparsity pattern leaves out at zero, and only these."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from subbyte.compress import compress
from subbyte.ir import Graph
from subbyte.quant import QTensor
from subbyte.quant.pattern import DENSE
from subbyte.recipes import Distillation, Recipe
from subbyte.steps.learned import Learned
from tests.unit.compress.networks import efficientnet_like, random_images


def recipe(pattern: str, bits: int, *steps: str, **more: Any) -> Recipe:
    told = {"name": "sparse", "weights": {"bits": bits, "pattern": pattern}, "steps": steps, **more}
    return Recipe.model_validate(told)


def sparse(graph: Graph) -> dict[str, QTensor]:
    """Layers with a pattern, which are not all layers."""
    weights = {node.name: node.params.get("weight") for node in graph.nodes}
    found = {name: w for name, w in weights.items() if isinstance(w, QTensor) and w.format.pattern != DENSE}
    assert 0 < len(found) < sum(isinstance(w, QTensor) for w in weights.values())
    return found


def masks(graph: Graph, made: Graph) -> dict[str, np.ndarray]:
    """What the pattern keeps of the float weights."""
    found = {}
    for name, weight in sparse(made).items():
        assert weight.format.pattern.mask is not None
        found[name] = weight.format.pattern.mask(np.asarray(graph.node(name).params["weight"]))
    return found


@pytest.mark.parametrize("pattern", ["2:4", "4x16:50", "3x5:25"])
@pytest.mark.parametrize("rounding", ["latent", "adaround"])
def test_what_is_left_out_stays_zero_whatever_is_learned(pattern: str, rounding: Any) -> None:
    graph = efficientnet_like()
    rounded = compress(graph, recipe(pattern, 2), [random_images(graph, 4)])
    original = {node.name: node for node in graph.nodes}
    learned = Learned(rounded, original, rounding=rounding)
    same = sparse(learned.result()) if rounding == "latent" else sparse(rounded)
    kept = masks(graph, rounded)
    for name, weight in sparse(rounded).items():
        np.testing.assert_array_equal(weight.codes, same[name].codes)
        assert not weight.codes[~kept[name]].any()
        assert (weight.codes[kept[name]] == 0).any()  # rounding makes zeros of what is kept, too
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in learned.parameters["weight"].values():
            parameter.add_(4.0 * torch.randn(parameter.shape, generator=generator))
    for name, weight in sparse(learned.result()).items():
        assert not weight.codes[~kept[name]].any()
        assert (weight.codes != sparse(rounded)[name].codes).any()
        # also of what rounding had made zero
        assert weight.codes[kept[name] & (sparse(rounded)[name].codes == 0)].any()


def test_steps_keep_one_mask() -> None:
    graph = efficientnet_like()
    images = random_images(graph, 8)
    short = {
        "reconstruct": {"epochs": 2.0, "batch": 4, "weight": 0.1},
        "distill": {"epochs": 1.0, "batch": 4},
    }
    asked = recipe("2:4", 3, "bias_correction", "reconstruct", "distill", **short)
    made, rounded = compress(graph, asked, [images]), compress(graph, recipe("2:4", 3), [images])
    kept = masks(graph, made)
    for name, weight in sparse(made).items():
        assert not weight.codes[~kept[name]].any()
    assert any((w.codes != sparse(rounded)[name].codes).any() for name, w in sparse(made).items())


def test_rates_in_steps_are_for_layers_that_lost_no_more_than_a_step() -> None:
    graph = efficientnet_like()
    rounded = compress(graph, recipe("2:4", 8), [random_images(graph, 4)])
    original = {node.name: node for node in graph.nodes}
    plain, stepped = (
        Learned(rounded, original, asked=Distillation(epochs=1.0, weight_unit=unit)).unit
        for unit in ("rms", "step")
    )
    pruned = set(sparse(rounded))
    assert {name for name in plain if plain[name] == stepped[name]} == pruned
    assert {stepped[name] for name in stepped.keys() - pruned} == {1.0}
