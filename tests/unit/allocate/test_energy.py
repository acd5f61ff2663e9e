"""Budgets of millijoules on a device that knows them, and formats with a pattern that it skips."""

from __future__ import annotations

import pytest

from subbyte.allocate.budget import Budget, parse_millijoules
from subbyte.analysis.sensitivity import sensitivity
from subbyte.analysis.table import Sensitivity
from subbyte.device import find_target
from subbyte.device.network import asked, price
from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.quant import weight_format
from subbyte.quant.format import INT8
from subbyte.quantize.variants import Variants
from subbyte.recipes import load_recipe
from tests.unit.allocate.setting import allocator
from tests.unit.compress.networks import efficientnet_like, random_images

SPARSE = weight_format("int8+2:4")


@pytest.fixture(scope="module")
def graph() -> Graph:
    return efficientnet_like()


@pytest.fixture(scope="module")
def variants(graph: Graph) -> Variants:
    """Without code books, whose 16 bytes a layer are not known before its levels are fitted."""
    recipe = load_recipe("w4a8")
    uniform = recipe.weights.model_copy(update={"levels": "uniform"})
    result = Variants(graph, recipe.model_copy(update={"weights": uniform}))
    result.calibrate([random_images(graph, 24)], lambda stage, done: None)
    return result


@pytest.fixture(scope="module")
def table(graph: Graph, variants: Variants) -> Sensitivity:
    formats = (INT8, weight_format(4), SPARSE)
    return sensitivity(variants, random_images(graph, 24), weights=formats, activations=())


def test_an_image_takes_what_was_predicted(variants: Variants, table: Sensitivity) -> None:
    target = find_target("v2-npu")
    chooser = allocator(variants, table, target=target)
    free = chooser.allocate(Budget())
    assert free.energy is not None
    program = chooser.program()
    assert program.energy > 0.0  # of bringing the image
    budget = Budget(energy=0.97 * free.energy)
    assert str(budget).endswith("mJ an image")
    found = chooser.allocate(budget)
    assert found.energy is not None
    assert found.energy <= 0.97 * free.energy
    assert found.degradation > free.degradation
    made = price(target, asked(chooser.graph(found)))
    assert made.energy == pytest.approx(found.energy)
    assert made.time == pytest.approx(found.latency)


def test_a_pattern_that_the_device_skips_wins_time(variants: Variants, table: Sensitivity) -> None:
    target = find_target("v2-npu")
    chooser = allocator(variants, table, target=target)
    free = chooser.allocate(Budget())
    fast = chooser.allocate(Budget(latency=0.98 * free.latency))
    assert SPARSE in fast.weights.values()
    assert fast.latency <= 0.98 * free.latency
    # a device without sparsity is given none of it
    dense = allocator(variants, table, target=find_target("ethos-u55-256")).allocate(Budget())
    assert set(dense.weights.values()) == {INT8}


def test_what_cannot_be_kept_is_said(variants: Variants, table: Sensitivity) -> None:
    with pytest.raises(InputError, match=r"1e-09 mJ \(nearest: .* mJ\)"):
        allocator(variants, table, target=find_target("v2-npu")).allocate(Budget(energy=1e-9))
    with pytest.raises(InputError, match="simple does not know what layers take in energy"):
        allocator(variants, table).allocate(Budget(energy=1.0))


@pytest.mark.parametrize(("text", "value"), [("0.9mJ", 0.9), ("900uJ", 0.9), ("900 µJ", 0.9), ("2", 2.0)])
def test_millijoules(text: str, value: float) -> None:
    assert parse_millijoules("--energy", text) == pytest.approx(value)


def test_what_is_no_energy() -> None:
    with pytest.raises(InputError, match=r"--energy must be a number above 0 with a unit, like 0\.9mJ"):
        parse_millijoules("--energy", "0.9ms")
