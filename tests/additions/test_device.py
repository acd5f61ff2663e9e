"""A device is a row of TARGETS, or a profile: widths are chosen for it by its name.

A real one touches nothing but a new file subbyte/device/profiles/<name>.toml; one that is measured, or has
rules of its own, a new file with a class and a row in subbyte/device/table.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch

from subbyte import Artifact
from subbyte.allocate.allocator import Allocation, Allocator
from subbyte.allocate.budget import Budget
from subbyte.allocate.costs import Costs
from subbyte.allocate.refuse import Rules
from subbyte.analysis.sensitivity import sensitivity
from subbyte.device import TARGETS, Cost, Layer, Memory, find_target
from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.preprocess import Preprocessing
from subbyte.quant import Format, weight_format
from subbyte.quant.format import INT8, UINT8
from subbyte.quantize.variants import Variants
from subbyte.recipes import Recipe, load_recipe
from tests.unit.compress.networks import efficientnet_like, random_images

FOUR = weight_format(4)


@dataclass(frozen=True)
class Toy:
    """Runs weights of 8 and 4 bits, those of 4 in half the time; 10 nJ a byte."""

    name: str = "toy"
    here: bool = False

    def prepare(self, graphs: Mapping[str, Graph]) -> None:
        pass

    def supports(self, layer: Layer, weights: Format | None, activations: Format) -> bool:
        return weights in (None, INT8, FOUR) and activations == UINT8

    def cost(self, layer: Layer, weights: Format | None, activations: Format) -> Cost:
        moved = layer.moved(weights, activations)
        return Cost(0.0 if weights is None else float(weights.bits), moved, 1e-5 * moved)

    def memory(self, graph: Graph) -> Memory:
        return Memory(activations=777, weights=0)


def allocate(name: str, budget: Budget) -> Allocation:
    """The road of the command line, on a small network."""
    torch.set_num_threads(1)
    graph = efficientnet_like()
    images, recipe = random_images(graph, 8), load_recipe("w8a8")
    variants, target = Variants(graph, recipe), find_target(name)
    table = sensitivity(variants, images, activations=())
    target.prepare({"int8": variants.quantized()})

    def wrap(graph: Graph, recipe: Recipe) -> Artifact:
        preprocessing = Preprocessing(8, 8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        return Artifact(graph, recipe.model_dump(mode="json"), preprocessing)

    costs = Costs(variants, table, target, (), Rules(acceptable=100.0))
    return Allocator(variants, costs, recipe, wrap).allocate(budget)


def test_widths_are_chosen_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "toy", Toy)
    free = allocate("toy", Budget())
    assert free.latency == 8.0 * len(free.weights)  # 8 ms a layer of 8 bits, nothing else takes time
    fast = allocate("toy", Budget(latency=free.latency - 8.0))
    assert set(fast.weights.values()) == {INT8, FOUR}
    assert fast.latency <= free.latency - 8.0
    with pytest.raises(InputError, match="activations may take 776 bytes, but toy needs 777"):
        allocate("toy", Budget(memory=776))
    allocate("toy", Budget(memory=777))


def test_one_that_is_not_there_is_named_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "toy", Toy)
    with pytest.raises(
        InputError, match=r"there is no device 'fridge'; known: host, .*, toy, or a profile\.toml"
    ):
        find_target("fridge")
