"""What keeps 8 bits because there are few of it."""

from __future__ import annotations

from typing import Any

import pytest

from subbyte.ir import Graph
from subbyte.quantize.assignment import assignments
from subbyte.recipes import Recipe
from tests.unit.compress.networks import FloatNetwork

#: Weights of first, small, middle, large and last; elements of what they make, and of the pooled vector.
WEIGHTS, ACTIVATIONS = 576 + 256 + 512 + 1024 + 320, 1024 + 1024 + 2048 + 2048 + 32


def network() -> Graph:
    net = FloatNetwork((8, 8, 4))
    x = net.conv("first", "image", 16, 3)
    x = net.conv("small", x, 16)
    x = net.conv("middle", x, 32)
    x = net.conv("large", x, 32)
    return net.graph(net.linear("last", net.flatten(net.pool(x)), 10))


def wide(kind: str, share: float, **more: Any) -> set[str]:
    """The layers in the middle whose weights or activations have 8 bits; all others have 4."""
    recipe = Recipe.model_validate({"name": "r", kind: {"bits": 4, "spare": share}, **more})
    found = assignments(network(), recipe)
    layers = ["first", "small", "middle", "large"] if kind == "activations" else list(found)
    return {name for name in layers if getattr(found[name], kind).bits == 8} - {"last"}


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (255, set()),
        (256, {"small"}),
        (767, {"small"}),
        (768, {"small", "middle"}),
        (1792, {"small", "middle", "large"}),
    ],
)
def test_weights_are_spared_from_the_fewest_on(numbers: int, expected: set[str]) -> None:
    found = wide("weights", numbers / WEIGHTS) & {"small", "middle", "large"}
    assert found == expected


def test_a_layer_that_an_override_names_is_not_counted() -> None:
    rule = {"match": "small", "weights": 2}
    assert wide("weights", 512 / WEIGHTS, override=[rule]) & {"small", "middle", "large"} == {"middle"}


def test_activations_are_spared_from_the_fewest_on() -> None:
    """The pooled vector feeds the last layer, whose table it follows; so the room is for the maps."""
    assert wide("activations", 1023 / ACTIVATIONS) == set()
    assert wide("activations", 2047 / ACTIVATIONS) == {"first"}
    assert wide("activations", 2048 / ACTIVATIONS) == {"first", "small"}
    assert wide("activations", 4096 / ACTIVATIONS) == {"first", "small", "middle"}


def test_values_that_share_a_grid_are_spared_together() -> None:
    net = FloatNetwork((8, 8, 4))
    x = net.conv("first", "image", 8, 3)
    branch = net.conv("branch", x, 4)
    joined = net.emit("concat", (x, branch), (8, 8, 12))
    x = net.conv("behind", joined, 20)
    graph = net.graph(net.linear("last", net.flatten(net.pool(x)), 10))
    total = 8 * 8 * (8 + 4 + 20) + 20
    for numbers, expected in ((8 * 8 * 4, set()), (8 * 8 * 12, {"first", "branch"})):
        recipe = Recipe.model_validate({"name": "r", "activations": {"bits": 4, "spare": numbers / total}})
        found = assignments(graph, recipe)
        assert {n for n in ("first", "branch", "behind") if found[n].activations.bits == 8} == expected


def test_nothing_is_spared_at_eight_bits_or_unasked() -> None:
    graph = network()
    plain = Recipe.model_validate({"name": "r", "weights": {"bits": 4}})
    assert plain.model_dump(mode="json")["weights"] == {"bits": 4, "levels": "uniform", "range": "mse"}
    asked = Recipe.model_validate({"name": "r", "weights": {"spare": 0.5}, "activations": {"spare": 0.5}})
    assert assignments(graph, asked) == assignments(graph, Recipe(name="r"))


def test_spared_layers_are_dense() -> None:
    recipe = Recipe.model_validate({"name": "r", "weights": {"pattern": "2:4", "spare": 768 / WEIGHTS}})
    found = assignments(network(), recipe)
    patterns = {name: found[name].weights.pattern.name for name in ("small", "middle", "large")}
    assert patterns == {"small": "dense", "middle": "dense", "large": "2:4"}
