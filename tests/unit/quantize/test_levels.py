"""Fitted levels: the best there are, by search; where they are made; what recipes say of them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.compress import compress
from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph
from subbyte.quant import nearest_levels
from subbyte.quantize.levels import _best_levels, fitted_levels
from subbyte.recipes import Recipe
from tests.unit.compress.networks import FloatNetwork, efficientnet_like, random_images


def error(points: np.ndarray, levels: tuple[int, ...]) -> float:
    return float(((nearest_levels(points, levels) - points) ** 2).sum())


@settings(max_examples=20)
@given(st.lists(st.integers(0, 56).map(lambda n: n / 4), min_size=1, max_size=30), st.integers(0, 14))
def test_no_other_levels_are_better(numbers: list[float], zero: int) -> None:
    """Of all that lie where points do: beyond them one only loses."""
    points = np.array(sorted(numbers))
    levels, least = _best_levels(points, np.ones(len(points)), zero, 2)
    assert zero in levels
    assert len(set(levels)) == 4
    assert error(points, levels) == least  # multiples of 1/16: exact
    assert least == min(error(points, found) for found in combinations(range(15), 4) if zero in found)


@settings(max_examples=10)
@given(st.sampled_from([2, 3, 4]), st.randoms(use_true_random=False), st.sampled_from([2.0**-7, 0.75]))
def test_levels_that_were_there_are_found(bits: int, rng, scale: float) -> None:  # type: ignore[no-untyped-def]
    """Points on so many bytes of a grid, its first and its last among them."""
    book = sorted({0, 255, *rng.sample(range(1, 255), (1 << bits) - 2)})
    zero = rng.choice(book)
    points = (np.array(book, np.float64) - zero) * scale
    q = fitted_levels(points, np.arange(1, 1 + len(book)), bits)
    assert (q.scale, q.zero_point, q.levels) == (scale, zero, tuple(book))


def test_a_count_is_as_many_points() -> None:
    rng = np.random.default_rng(0)
    points, counts = rng.normal(size=50), rng.integers(1, 9, 50)
    shuffled = rng.permutation(np.repeat(points, counts))
    assert fitted_levels(points, counts, 3) == fitted_levels(shuffled, np.ones(len(shuffled), int), 3)


@pytest.mark.parametrize("points", [[0.0], [3.0], [-1.0, 2.0], [0.5, 0.5, 1e-30], [1e-38, 0.0]])
def test_fewer_numbers_than_levels(points: list[float]) -> None:
    """Each of them is as near to a level as a grid of 8 bits allows."""
    q = fitted_levels(np.array(points), np.ones(len(points), int), 4)
    assert q.levels is not None
    for point in points:
        assert min(abs((level - q.zero_point) * q.scale - point) for level in q.levels) <= q.scale


def test_the_grid_closes_in_on_the_levels() -> None:
    """One of 100 million points lies far away: a grid that reached it would have one step for the others."""
    points = np.append(np.linspace(0.0, 1.0, 256), 300.0)
    counts = np.append(np.full(256, 400_000), 1)
    q = fitted_levels(points, counts, 3)
    assert q.high < 2.0


def recipe(levels: str, bits: int = 4) -> Recipe:
    return Recipe.model_validate({"name": "test", "activations": {"bits": bits, "levels": levels}})


def relative_error(graph: Graph, levels: str, bits: int) -> float:
    images = random_images(graph, 32)
    made = compress(graph, recipe(levels, bits), [images])
    exact, output = (torch_executor.run(g, images)[g.outputs[0]] for g in (graph, made))
    return float(((output - exact) ** 2).mean() / exact.var())


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_fitted_levels_lose_less_than_uniform_ones(bits: int) -> None:
    graph = efficientnet_like()
    assert relative_error(graph, "learned", bits) < relative_error(graph, "uniform", bits)


def test_levels_are_where_only_tables_make_a_value() -> None:
    net = FloatNetwork((8, 8, 3))
    stem = net.conv("stem", "image", 8, 3, act="silu")
    linear = net.conv("linear", stem, 8, act="none")
    clamped = net.conv("clamped", linear, 8, act="relu")
    joined = net.emit("concat", (linear, clamped), (8, 8, 16))
    summed = net.conv("summed", joined, 8, act="none", residual=stem)
    graph = net.graph(net.linear("head", net.emit("flatten", (net.pool(summed),), (8,)), 4))
    made = compress(graph, recipe("learned"), [random_images(graph, 8)])
    book = {name for name, value in made.values.items() if value.q is not None and value.q.levels is not None}
    assert book == {stem, linear, clamped, joined}
    assert made.value(linear).q == made.value(joined).q == made.value(clamped).q
    for name in ("linear", "clamped"):
        assert "table" in made.node(name).params
    assert "table" not in made.node("summed").params


def test_uniform_levels_and_8_bits_are_what_they_were() -> None:
    graph = efficientnet_like()
    images = random_images(graph, 8)
    for asked in (recipe("uniform"), recipe("learned", 8)):
        made = compress(graph, asked, [images])
        assert all(value.q is None or value.q.levels is None for value in made.values.values())


def test_a_recipe_writes_levels_only_where_they_are_asked_for() -> None:
    assert "levels" not in recipe("uniform").model_dump(mode="json")["activations"]
    asked = recipe("learned").model_dump(mode="json")
    assert asked["activations"]["levels"] == "learned"
    assert Recipe.model_validate(asked) == recipe("learned")
