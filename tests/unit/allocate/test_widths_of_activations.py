"""Narrow activations and float layers: the program beside brute force, what recipes make of them, errors."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from subbyte.allocate.budget import Budget
from subbyte.allocate.check import Checker
from subbyte.allocate.costs import LEAST_DEGRADATION
from subbyte.allocate.program import GroupItem, LayerItem, LayerOption, Program, solve
from subbyte.allocate.recipe import with_formats
from subbyte.analysis.degradation import Degradation, Meter
from subbyte.analysis.sensitivity import sensitivity
from subbyte.analysis.table import Sensitivity
from subbyte.compress import compress
from subbyte.device import Memory, artifact_bytes
from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.ir.shares import shares
from subbyte.quant.format import ACTIVATION_FORMATS, FP16, FP32, INT8, UINT8, WEIGHT_FORMATS
from subbyte.quantize.assignment import assignments
from subbyte.quantize.variants import Variants
from subbyte.recipes import load_recipe
from tests.unit.allocate.setting import Simple, allocator, wrap
from tests.unit.allocate.test_allocate import brute, program
from tests.unit.compress.networks import efficientnet_like, random_images

UINT4 = ACTIVATION_FORMATS["uint4"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def graph() -> Graph:
    """The expansion needs floating point: a large weight for a channel that is always 0 leaves the others of
    its output channel few of the codes that 8 bits have."""
    graph = efficientnet_like()
    for param in graph.node("stem").params.values():
        np.asarray(param)[0] = 0.0
    np.asarray(graph.node("expand").params["weight"])[..., 0] = 40.0
    return graph


def with_float_layers(p: Program, seed: int) -> Program:
    """The program with a float format for every layer, and activations that have bits."""
    rng = np.random.default_rng(100 + seed)
    layers = []
    for item in p.layers:
        wide = item.options[INT8]
        times = dict.fromkeys(wide.latency, 0.2)
        gain, more = float(rng.random()) * 0.02, int(rng.integers(0, 300))
        float_option = LayerOption(wide.degradation - gain, 2 * wide.size, times, more)
        layers.append(LayerItem(item.name, {FP16: float_option, **item.options}, item.input))
    groups = [
        GroupItem(group.nodes, group.degradation, group.latency, int(rng.integers(10, 100)))
        for group in p.groups
    ]
    fixed = 7
    elements = fixed + sum(group.elements for group in groups)
    return Program(layers, groups, p.size, p.latency, 8 * fixed, elements)


@pytest.mark.parametrize("seed", range(12))
def test_weights_activations_and_float_layers_beside_brute_force(seed: int) -> None:
    p = with_float_layers(program(seed), seed)
    rng = np.random.default_rng(seed)
    size, latency = 9000 + int(rng.integers(2000, 20000)), 1.5 + float(rng.random()) * 2.0
    bits = p.elements * (4.5 + 4.0 * float(rng.random()))
    expected, found = brute(p, size, latency, bits), solve(p, size=size, latency=latency, bits=bits)
    if expected is None:
        assert found is None
        return
    assert found is not None
    # the solver stops within 1e-4 of the optimum, which may be below 0
    assert found.degradation <= expected + 1e-4 * abs(expected) + 1e-12
    groups = enumerate(p.groups)
    made = p.bits + sum(group.elements * found.activations[i].bits for i, group in groups)
    made += sum(item.options[found.weights[item.name]].bits for item in p.layers)
    assert found.bits == made <= bits + 1e-6


def test_programs_beside_brute_force_have_answers_of_every_kind() -> None:
    """Some of the seeds above keep float layers, some narrow activations, and some are impossible."""
    kinds: set[object] = set()
    for seed in range(12):
        p = with_float_layers(program(seed), seed)
        for mean in (4.1, 6.0, 20.0):
            found = solve(p, bits=mean * p.elements)
            chosen = () if found is None else (*found.weights.values(), *found.activations.values())
            kinds |= {None} if found is None else set(chosen)
    assert {None, FP16, INT8, UINT8, UINT4} <= kinds


def test_mean_bits_narrow_activations_by_sensitivity(
    graph: Graph, variants: Variants, table: Sensitivity
) -> None:
    """Those whose bits cost least are narrowed, and what the recipe promises is made."""
    free = allocator(variants, table, (8, 4, 3, 2)).allocate(Budget())
    assert not free.activations
    assert free.shares.activation_bits == 8.0
    found = allocator(variants, table, (8, 4, 3, 2)).allocate(Budget(activation_bits=4.5))
    assert found.shares.activation_bits <= 4.5
    assert set(found.weights.values()) == {INT8}
    made = compress(graph, found.recipe.model_copy(update={"steps": ()}), [random_images(graph, 24)])
    assert shares(made) == found.shares
    other = allocator(variants, table, (8, 4, 3, 2)).graph(found)
    assert {name: value.q for name, value in made.values.items()} == {
        name: value.q for name, value in other.values.items()
    }
    assert found.size == artifact_bytes(wrap(other, found.recipe))
    costs = allocator(variants, table, (8, 4, 3, 2)).costs
    for one, other_nodes in itertools.permutations([group.nodes for group in costs.shared], 2):
        # nobody is narrower than one with as many numbers that loses less by it
        ours, theirs = (found.activations.get(nodes[0], UINT8) for nodes in (one, other_nodes))
        if numbers(graph, one) == numbers(graph, other_nodes) and ours.bits < theirs.bits:
            mine, its = (costs.degradations("activations", nodes[0]) for nodes in (one, other_nodes))
            # exchanging them would cost more, but for what the solver leaves (1e-4 of the optimum)
            assert mine[ours] + its[theirs] <= mine[theirs] + its[ours] + 1e-4 * found.degradation


def numbers(graph: Graph, nodes: tuple[str, ...]) -> int:
    return sum(int(np.prod(graph.value(graph.node(name).output).shape)) for name in nodes)


def test_an_impossible_mean_names_the_nearest(variants: Variants, table: Sensitivity) -> None:
    with pytest.raises(InputError, match=r"they may have 8, 4\)") as error:
        allocator(variants, table, (8, 4)).allocate(Budget(activation_bits=3.9))
    nearest = float(re.search(r"nearest: ([\d.]+);", str(error.value))[1])  # type: ignore[index]
    found = allocator(variants, table, (8, 4)).allocate(Budget(activation_bits=nearest))
    assert nearest - 0.01 < found.shares.activation_bits <= nearest
    with pytest.raises(InputError, match=r"3.9 bits on average \(nearest: 8.00; they may have 8\)"):
        allocator(variants, table).allocate(Budget(activation_bits=3.9))
    with pytest.raises(InputError, match=r"1000 bytes \(nearest: \d+, without the other budget\) and activ"):
        allocator(variants, table, (8, 4)).allocate(Budget(size=1000, activation_bits=3.9))


@pytest.fixture(scope="module")
def whole_table(graph: Graph) -> Sensitivity:
    """With rows of layers that stay in floating point."""
    variants = Variants(graph, load_recipe("w4a8"))
    formats = (*WEIGHT_FORMATS.values(), FP16, FP32)
    return sensitivity(variants, random_images(graph, 24), weights=formats)


def test_rows_of_float_layers_change_nothing_unless_they_are_asked_for(
    variants: Variants, table: Sensitivity, whole_table: Sensitivity
) -> None:
    assert [row for row in whole_table.rows if not row.format.is_float] == table.rows
    size = allocator(variants, table).smallest(Budget()) + 400
    latency = allocator(variants, table).allocate(Budget()).latency * 0.6
    for budget, bits in ((Budget(size=size), (8,)), (Budget(latency=latency), (8, 4)), (Budget(), (8, 4))):
        before = allocator(variants, table, bits).allocate(budget)
        assert allocator(variants, whole_table, bits).allocate(budget) == before
        assert not before.floats


def test_layers_stay_in_floating_point_where_that_wins(
    graph: Graph, variants: Variants, whole_table: Sensitivity
) -> None:
    free = allocator(variants, whole_table, floats=(FP16, FP32)).allocate(Budget())
    kept = {name for name, format in free.weights.items() if format.is_float}
    won = {
        row.nodes[0]
        for row in whole_table.rows
        if row.kind == "weights" and row.format.is_float and whole_table.added_kl(row) < -LEAST_DEGRADATION
    }
    assert kept == won == set(free.floats)
    assert "expand" in kept
    assert free.degradation < 0.0
    assert re.fullmatch(r"fp(16|32): 8 bits alone would add \d\.\d{4} nats", free.floats["expand"])
    # what is predicted is what a recipe makes of it
    made = compress(graph, free.recipe.model_copy(update={"steps": ()}), [random_images(graph, 24)])
    assert artifact_bytes(wrap(made, free.recipe)) == free.size
    assert shares(made) == free.shares
    asked = assignments(graph, free.recipe)
    assert {name: asked[name].weights for name in free.weights} == free.weights
    # bytes take away those that have many, milliseconds all of them
    small = allocator(variants, whole_table, floats=(FP16,)).allocate(Budget(size=free.size - 600))
    assert small.size <= free.size - 600
    assert set(small.floats) < set(free.floats)
    assert "expand" not in small.floats
    fast = allocator(variants, whole_table, floats=(FP16,)).allocate(Budget(latency=free.latency * 0.5))
    assert fast.latency <= free.latency * 0.5
    assert not fast.floats


def all_gaining(table: Sensitivity) -> Sensitivity:
    """The table, had every layer in floating point no loss."""
    none = Degradation(kl=0.0, mse=0.0, agreement=1.0)
    rows = [
        row.model_copy(update={"degradation": none}) if row.format.is_float else row for row in table.rows
    ]
    return table.model_copy(update={"rows": rows})


def test_a_float_layers_time_includes_its_conversions(variants: Variants, whole_table: Sensitivity) -> None:
    costs = allocator(variants, all_gaining(whole_table), floats=(FP16,)).costs
    option = costs.layer_item("project").options[FP16]
    # Simple takes 1 ns for a number made and a bit of weights and inputs: 16 + 32 of the layer, and 2 + 32
    # of making real the 1024 + 512 numbers that it reads, and of quantizing the 512 that it makes
    expected = 1e-6 * (512 * 48 + (1024 + 512 + 512) * 34)
    assert option.latency[UINT8] == pytest.approx(expected)
    assert option.size == 2 * 128
    assert option.bits == (32 - 8) * 512
    stem, classifier = (costs.layer_item(name).options[FP16] for name in ("stem", "classifier"))
    assert stem.latency[UINT8] == pytest.approx(1e-6 * (512 * 48 + 512 * 34))  # the image is real
    assert classifier.latency[UINT8] == pytest.approx(1e-6 * (10 * 48 + 24 * 34))
    assert classifier.bits == 0


def test_float_layers_and_narrow_activations_together(
    graph: Graph, variants: Variants, whole_table: Sensitivity
) -> None:
    """A float layer's output counts 32 bits, and is rounded to the bits of its group where it is read."""
    choice = allocator(variants, whole_table, (8, 4, 3, 2), floats=(FP16,))
    found = choice.allocate(Budget(activation_bits=6.0))
    assert found.shares.activation_bits <= 6.0
    mixed = replace(found, weights={**found.weights, "expand": FP16}, activations={"expand": UINT4})
    recipe = with_formats(choice.recipe, graph, mixed.weights, mixed.activations, "mixed").model_copy(
        update={"steps": ()}
    )
    made = compress(graph, recipe, [random_images(graph, 24)])
    assert made.value("expand:out").q is None
    assert made.value("expand:out.codes").grid.format == UINT4
    assert shares(made) == shares(choice.graph(mixed))
    assert shares(made).activations[FP32] == numbers(graph, ("expand", *found.floats))


def test_a_table_without_float_rows_says_what_to_run(variants: Variants, table: Sensitivity) -> None:
    with pytest.raises(
        InputError, match=r"gain in fp16; run the analysis again with --weight-bits 8,4,3,2,fp16"
    ):
        allocator(variants, table, floats=(FP16,))


class Packing(Simple):
    """A target that packs the codes of activations: it needs the bytes of all of them."""

    def memory(self, graph: Graph) -> Memory:
        counts = shares(graph).activations
        return Memory(sum(format.packed_bytes((count,)) for format, count in counts.items()), 0)


def test_memory_narrows_activations_where_a_target_packs_them(
    graph: Graph, variants: Variants, table: Sensitivity
) -> None:
    target = Packing()
    need = target.memory(variants.quantized()).activations
    budget = Budget(memory=need * 2 // 3)
    with pytest.raises(InputError, match=f"may take {budget.memory} bytes, but simple needs {need}"):
        allocator(variants, table, target=target).allocate(budget)
    found = allocator(variants, table, (8, 4), target=target).allocate(budget)
    assert target.memory(variants.quantized({}, found.activations)).activations <= need * 2 // 3
    assert set(found.activations.values()) == {UINT4}
    with pytest.raises(InputError, match=f"may take 100 bytes, but simple needs {need // 2}; allow"):
        allocator(variants, table, (8, 4), target=target).allocate(Budget(memory=100))
    with pytest.raises(
        InputError, match=r"1000 bytes \(nearest: \d+\) and \d+ bytes of activations \(nearest"
    ):
        allocator(variants, table, (8, 4), target=target).allocate(replace(budget, size=1000))


def test_checking_narrow_activations_and_float_layers_never_ends_with_more_degradation(
    graph: Graph, variants: Variants, whole_table: Sensitivity
) -> None:
    images, budget = random_images(graph, 24), Budget(activation_bits=5.0)
    first, better = (
        Checker(
            allocator(variants, whole_table, (8, 4, 3, 2), floats=(FP16,)), Meter(graph, images), images
        ).best(budget, rounds)
        for rounds in (0, 2)
    )
    assert better.degradation.loss <= first.degradation.loss
    assert better.allocation.shares.activation_bits <= 5.0
    assert better.evaluations > first.evaluations == 1


def test_probes_correct_what_groups_of_activations_cost(
    graph: Graph, variants: Variants, whole_table: Sensitivity
) -> None:
    images = random_images(graph, 24)
    check = Checker(allocator(variants, whole_table, (8, 4)), Meter(graph, images), images)
    before = [check.allocator.costs.group_item(i).degradation for i in range(10)]
    check.best(Budget(activation_bits=4.5), rounds=1)
    factors = check.allocator.costs.group_factors
    assert 1 <= len(factors) <= 8
    assert set(check.allocator.costs.factors) == set()  # all weights have 8 bits
    for index, factor in factors.items():
        assert 1 / 8 <= factor <= 8
        after = check.allocator.costs.group_item(index).degradation
        assert after == {format: kl * factor for format, kl in before[index].items()}
