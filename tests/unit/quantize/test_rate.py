"""Scales for a number of bits: they cost what was asked for, and errors are spread as they should be."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from subbyte.artifact.digest import graph_digest
from subbyte.compress import compress
from subbyte.errors import RecipeError
from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph, is_weighted, verify
from subbyte.quant import QTensor
from subbyte.quant.entropy import fitted, histogram
from subbyte.quantize.assignment import assignments
from subbyte.quantize.prepare import split_for_integers
from subbyte.quantize.rate import (
    COARSEST,
    OF_LAYER,
    REACHED,
    rated_scales,
    rounded_up,
    squared_gradients,
    with_short_scales,
)
from subbyte.recipes import Recipe
from tests.fuzz.builder import Builder

SEED = 11


def network() -> Graph:
    """Float32: three convolutions, the second depthwise, and a classifier."""
    b = Builder(random.Random(SEED), (8, 8, 3))
    x = b.fconv("image", 16, 3, stride=2, act="relu")
    x = b.fconv(x, 16, 3, groups=16, act="relu")
    x = b.fconv(x, 32, act="none")
    return b.finish(b.flinear(b.flatten(b.add("global_avg_pool", [x])), 10))


def images(count: int) -> np.ndarray:
    print(f"seed {SEED}")
    return np.random.default_rng(SEED).normal(size=(count, 8, 8, 3)).astype(np.float32)


def layers(graph: Graph) -> list[str]:
    return [node.name for node in graph.nodes if is_weighted(node)]


def test_squared_gradients_are_those_of_the_outputs() -> None:
    """E (∂(u·y)/∂w)² = Σ_k (∂y_k/∂w)², in units of the outputs' mean square; the estimate of n draws is a
    mean of n squares of a normal number for each weight: its relative error is about √(2/n)."""
    graph, few = network(), images(2)
    draws = 4000
    found = squared_gradients(graph, layers(graph), [np.tile(few[:1], (1, 1, 1, 1))] * draws, 0, _told)
    state = torch_executor.state_of(graph)
    leaves = {name: state[f"{name}:weight"].requires_grad_() for name in layers(graph)}
    made = torch_executor.forward(graph, torch_executor.nchw(few[:1]), state)[graph.outputs[0]]
    unit = made.detach().square().mean()
    for name, leaf in leaves.items():
        squares = [torch.autograd.grad(y, leaf, retain_graph=True)[0].double() ** 2 for y in made.flatten()]
        exact = (torch.stack(squares).sum(0) / unit).flatten(1).mean(1).numpy() * draws
        # six standard errors
        np.testing.assert_allclose(found[name], exact, rtol=6 * np.sqrt(2 / draws), atol=1e-9)


def _told(stage: str, done: int) -> None:
    assert stage == "weigh weights"
    assert done > 0


@pytest.mark.parametrize("bits", [2.6, 4.0])
def test_codes_take_the_bits_asked_for(bits: float) -> None:
    graph = network()
    recipe = Recipe.model_validate(
        {"name": "r", "weights": {"range": "rate", "rate": bits, "coding": "entropy"}}
    )
    split, asked = split_for_integers(graph, assignments(graph, recipe))
    scales = rated_scales(split, asked, bits, [images(16)], 0, _told)
    assert set(scales) == set(layers(graph))
    counts = []
    for node in graph.nodes:
        if node.name in scales:
            weight = np.asarray(node.params["weight"])
            rows, scale = weight.reshape(len(weight), -1), scales[node.name]
            assert scale.dtype == np.float32
            assert not (scale.view(np.uint32) & 0xFFFF).any()  # 8 significant bits
            values = np.rint(rows / scale[:, None])
            assert np.abs(values).max() <= 127
            counts.append(histogram(values.astype(np.int8).view(np.uint8), 8))
    together = np.concatenate(counts)
    assert fitted(together).bits / together.sum() == pytest.approx(bits, abs=REACHED)


def test_fewer_bits_than_the_coarsest_steps_take_are_refused() -> None:
    graph = network()
    split, asked = split_for_integers(graph, assignments(graph, Recipe.model_validate({"name": "r"})))
    with pytest.raises(RecipeError, match=r"at least 2\.\d\d can be had"):
        rated_scales(split, asked, 1.5, [images(16)], 0, _told)


def test_each_step_makes_the_same_error_of_the_outputs() -> None:
    """f·d² is the same for all channels, but for those at a limit, within what rounding scales up makes."""
    graph, seen = network(), images(16)
    recipe = Recipe.model_validate({"name": "r"})
    split, asked = split_for_integers(graph, assignments(graph, recipe))
    scales = rated_scales(split, asked, 4.0, [seen], 0, _told)
    squares = squared_gradients(split, list(scales), [seen], 0, _told)
    products = []
    for node in split.nodes:
        if node.name in scales:
            weight, d = np.asarray(node.params["weight"], np.float64), scales[node.name].astype(np.float64)
            square = squares[node.name] * (1 - OF_LAYER) + squares[node.name].mean() * OF_LAYER
            free = (d > np.abs(weight.reshape(len(d), -1)).max(1) / 127 * 1.01) & (
                d < COARSEST * np.sqrt(np.square(weight).mean()) / 1.01
            )
            products.append((square * d * d)[free])
    free = np.concatenate(products)
    assert len(free) > 20
    assert free.max() / free.min() < (1 + 2.0**-7) ** 2


def test_short_scales_change_a_channel_by_a_256th() -> None:
    graph = compress(network(), Recipe.model_validate({"name": "r", "weights": {"bits": 4}}), [images(8)])
    short = verify(with_short_scales(graph))
    for node, other in zip(graph.nodes, short.nodes, strict=True):
        if isinstance(weight := node.params.get("weight"), QTensor):
            found = other.params["weight"]
            assert isinstance(found, QTensor)
            assert not (found.scale.view(np.uint32) & 0xFFFF).any()
            np.testing.assert_array_equal(found.codes, weight.codes)
            np.testing.assert_allclose(found.scale, weight.scale, rtol=2.0**-8)
            # half a unit, in units of the new scale
            real, kept = node.params["bias"] * weight.scale, other.params["bias"] * found.scale
            assert (np.abs(real - kept) <= 0.51 * found.scale).all()
    again = with_short_scales(short)
    assert graph_digest(again) == graph_digest(short)


def test_rounded_up_is_the_next_number_of_eight_bits() -> None:
    exact = np.array([1.0, 1.0078125, 1e-30, 3.1415927, 0.0], np.float32)
    found = rounded_up(exact)
    assert (found >= exact).all()
    assert (found <= exact * (1 + 2.0**-7)).all()
    np.testing.assert_array_equal(found[[0, 1, 4]], exact[[0, 1, 4]])
    np.testing.assert_array_equal(rounded_up(found), found)
