"""Allocation: the integer program beside brute force, exact bytes, refusals, and errors that help."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from subbyte import Artifact, save
from subbyte.allocate.allocator import Allocator
from subbyte.allocate.budget import Budget, parse_bytes, parse_milliseconds
from subbyte.allocate.check import Checker, lost
from subbyte.allocate.costs import LEAST_DEGRADATION, Costs
from subbyte.allocate.program import GroupItem, LayerItem, LayerOption, Program, solve
from subbyte.allocate.recipe import described, to_toml, with_formats
from subbyte.allocate.refuse import FormatFacts, Rules, kept_because, refusal
from subbyte.analysis.degradation import Meter
from subbyte.analysis.sensitivity import sensitivity
from subbyte.analysis.table import Sensitivity
from subbyte.compress import compress
from subbyte.device import Cost, Layer, Memory, Target, artifact_bytes
from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.ir.shares import shares
from subbyte.preprocess import Preprocessing
from subbyte.quant import Format, QTensor, activation_format, weight_format
from subbyte.quant.format import ACTIVATION_FORMATS, FP16, FP32, INT8, UINT8, WEIGHT_FORMATS
from subbyte.quantize.assignment import assignments
from subbyte.quantize.variants import Variants
from subbyte.recipes import Recipe, load_recipe
from subbyte.steps.bias_correction import correct_biases
from tests.unit.compress.networks import efficientnet_like, random_images

UINT4 = ACTIVATION_FORMATS["uint4"]
PREPROCESSING = Preprocessing(8, 8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


class Simple:
    """A target that takes a microsecond per bit of weights and activations and 1000 numbers made."""

    name, here = "simple", False

    def prepare(self, graphs: Mapping[str, Graph]) -> None:
        pass

    def supports(self, layer: Layer, weights: Format | None, activations: Format) -> bool:
        return weights != weight_format(3)

    def cost(self, layer: Layer, weights: Format | None, activations: Format) -> Cost:
        bits = 2 if weights is None else weights.bits
        time = 1e-6 * float(np.prod(layer.output)) * (bits + activations.bits)
        return Cost(time, layer.moved(weights, activations))

    def memory(self, graph: Graph) -> Memory:
        return Memory(activations=5000, weights=0)


def weights_of(widths: Mapping[str, int]) -> dict[str, Format]:
    return {name: weight_format(bits) for name, bits in widths.items()}


def program(seed: int, groups: bool = True) -> Program:
    rng = np.random.default_rng(seed)
    items = []
    for i in range(4):
        degradation, size = rng.random(), int(rng.integers(100, 1000))
        index = None if i == 0 else int(rng.integers(0, 2)) if groups else 0
        inputs = [UINT8] if index is None or not groups else [UINT8, activation_format(4)]
        options = {
            weight_format(bits): LayerOption(
                degradation * 2.0**-bits, size * bits, {a: bits * a.bits * 0.01 for a in inputs}
            )
            for bits in (8, 4, 2)
        }
        items.append(LayerItem(f"l{i}", options, index))
    degradations = (
        ({UINT8: 0.0, activation_format(4): float(rng.random()) * 0.1},) * 2 if groups else ({UINT8: 0.0},)
    )
    found = [GroupItem((f"g{i}",), d, dict.fromkeys(d, 0.1)) for i, d in enumerate(degradations)]
    return Program(items, found, 5000, 1.0)


def with_float_layers(p: Program, seed: int) -> Program:
    """The program with a float format for every layer, and activations that have bits."""
    rng = np.random.default_rng(100 + seed)
    layers = []
    for item in p.layers:
        wide = item.options[INT8]
        times = {read: 0.2 for read in wide.latency}
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


def brute(p: Program, size: float, latency: float, bits: float = np.inf) -> float | None:
    """The least degradation over all widths, or None."""
    best = None
    for formats in itertools.product(*(item.options for item in p.layers)):
        for widths in itertools.product(*(group.degradation for group in p.groups)):
            degradation = sum(group.degradation[w] for group, w in zip(p.groups, widths, strict=True))
            made = p.bits + sum(group.elements * w.bits for group, w in zip(p.groups, widths, strict=True))
            time, total = p.latency, p.size
            time += sum(group.latency[w] for group, w in zip(p.groups, widths, strict=True))
            for item, b in zip(p.layers, formats, strict=True):
                option = item.options[b]
                degradation, total = degradation + option.degradation, total + option.size
                time += option.latency[UINT8 if item.input is None else widths[item.input]]
                made += option.bits
            fits = total <= size and time <= latency and made <= bits
            if fits and (best is None or degradation < best):
                best = degradation
    return best


@pytest.mark.parametrize("seed", range(12))
def test_the_program_finds_what_brute_force_finds(seed: int) -> None:
    p = program(seed)
    rng = np.random.default_rng(seed)
    size, latency = 5000 + int(rng.integers(2000, 16000)), 1.2 + float(rng.random()) * 2.0
    expected, found = brute(p, size, latency), solve(p, size=size, latency=latency)
    if expected is None:
        assert found is None
        return
    assert found is not None
    # the solver stops within 1e-4 of the optimum
    assert found.degradation <= expected * (1 + 1e-4) + 1e-12
    assert found.size <= size
    assert found.latency <= latency + 1e-6
    sizes = sum(item.options[found.weights[item.name]].size for item in p.layers)
    assert found.size == 5000 + sizes


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
    assert {None, FP16, INT8, UINT8, activation_format(4)} <= kinds


def test_the_least_size_is_all_narrow() -> None:
    p = program(3, groups=False)
    found = solve(p, goal="size")
    assert found is not None
    assert set(found.weights.values()) == {weight_format(2)}


@pytest.fixture(scope="module")
def graph() -> Graph:
    return efficientnet_like()


@pytest.fixture(scope="module")
def variants(graph: Graph) -> Variants:
    result = Variants(graph, load_recipe("w4a8"))
    result.calibrate([random_images(graph, 24)], lambda stage, done: None)
    return result


@pytest.fixture(scope="module")
def table(graph: Graph) -> Sensitivity:
    return sensitivity(Variants(graph, load_recipe("w4a8")), random_images(graph, 24))


def wrap(graph: Graph, recipe: Recipe) -> Artifact:
    return Artifact(graph, recipe.model_dump(mode="json"), PREPROCESSING)


def allocator(
    variants: Variants,
    table: Sensitivity,
    activations: tuple[int, ...] = (8,),
    rules: Rules | None = None,
    floats: tuple[Format, ...] = (),
    target: Target | None = None,
) -> Allocator:
    formats = [activation_format(bits) for bits in activations]
    costs = Costs(variants, table, target or Simple(), formats, rules or Rules(acceptable=100.0), floats)
    return Allocator(variants, costs, load_recipe("w4a8"), wrap)


def test_the_size_is_that_of_the_file(
    graph: Graph, variants: Variants, table: Sensitivity, tmp_path: Path
) -> None:
    whole = allocator(variants, table).allocate(Budget())
    assert set(whole.weights.values()) == {INT8}  # nothing asks for less
    for size in (whole.size, whole.size - 200):
        found = allocator(variants, table).allocate(Budget(size=size))
        assert found.size <= size
        compressed = compress(
            graph, found.recipe.model_copy(update={"steps": ()}), [random_images(graph, 24)]
        )
        save(tmp_path / "a.subbyte", wrap(compressed, found.recipe))
        assert (tmp_path / "a.subbyte").stat().st_size == found.size
        made = {n.name: n.params["weight"] for n in compressed.nodes if "weight" in n.params}
        assert {name: w.format.plain for name, w in made.items() if isinstance(w, QTensor)} == found.weights


def test_widths_that_the_target_lacks_are_not_used(variants: Variants, table: Sensitivity) -> None:
    size = allocator(variants, table).smallest(Budget()) + 100
    found = allocator(variants, table).allocate(Budget(size=size))
    assert weight_format(3) not in found.weights.values()
    assert weight_format(2) in found.weights.values()


def test_latency_may_narrow_activations(graph: Graph, variants: Variants, table: Sensitivity) -> None:
    free = allocator(variants, table, (8, 4)).allocate(Budget())
    assert not free.activations
    fast = allocator(variants, table, (8, 4)).allocate(Budget(latency=free.latency * 0.6))
    assert fast.latency <= free.latency * 0.6
    assert set(fast.activations.values()) == {activation_format(4)}
    asked = assignments(graph, fast.recipe)
    assert {name: asked[name].weights for name in fast.weights} == fast.weights
    assert {name: asked[name].activations for name in fast.activations} == fast.activations
    # what the recipe promises is what is made, and it takes the time that was predicted
    made = compress(graph, fast.recipe.model_copy(update={"steps": ()}), [random_images(graph, 24)])
    other = allocator(variants, table, (8, 4)).graph(fast)
    assert {name: value.q for name, value in made.values.items()} == {
        name: value.q for name, value in other.values.items()
    }


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
    with pytest.raises(InputError, match=r"they may have 8, 4\)$") as error:
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
    for budget, bits in ((Budget(size=size), (8,)), (Budget(latency=0.02), (8, 4)), (Budget(), (8, 4))):
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
    assert kept
    assert free.degradation < 0.0
    # what is predicted is what a recipe makes of it
    made = compress(graph, free.recipe.model_copy(update={"steps": ()}), [random_images(graph, 24)])
    assert artifact_bytes(wrap(made, free.recipe)) == free.size
    assert shares(made) == free.shares
    asked = assignments(graph, free.recipe)
    assert {name: asked[name].weights for name in free.weights} == free.weights
    # bytes and milliseconds take them away again
    small = allocator(variants, whole_table, floats=(FP16,)).allocate(Budget(size=free.size - 600))
    assert small.size <= free.size - 600
    assert len(small.floats) < len(kept)
    fast = allocator(variants, whole_table, floats=(FP16,)).allocate(Budget(latency=free.latency * 0.5))
    assert fast.latency <= free.latency * 0.5


def test_a_float_layers_time_includes_its_conversions(variants: Variants, whole_table: Sensitivity) -> None:
    costs = allocator(variants, whole_table, floats=(FP16,)).costs
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


def test_an_impossible_size_names_the_nearest(variants: Variants, table: Sensitivity) -> None:
    with pytest.raises(InputError) as error:
        allocator(variants, table).allocate(Budget(size=1000))
    nearest = int(re.search(r"nearest: (\d+)", str(error.value))[1])  # type: ignore[index]
    assert allocator(variants, table).allocate(Budget(size=nearest)).size == nearest
    with pytest.raises(InputError):
        allocator(variants, table).allocate(Budget(size=nearest - 1))


def test_two_impossible_budgets_name_both(variants: Variants, table: Sensitivity) -> None:
    with pytest.raises(
        InputError, match=r"of 1000 bytes \(nearest: \d+, without the other budget\) and 1e-09 ms"
    ):
        allocator(variants, table).allocate(Budget(size=1000, latency=1e-9))


def test_memory_is_the_targets(variants: Variants, table: Sensitivity) -> None:
    with pytest.raises(InputError, match=r"may take 10 bytes, but simple needs 5000;"):
        allocator(variants, table).allocate(Budget(memory=10))
    allocator(variants, table).allocate(Budget(memory=1 << 20))


def test_refusals() -> None:
    few = FormatFacts(saved=3000, scales=64, lost=10.0, images=30, speedup=0.0)
    assert refusal(few, weight_format(4), Rules()) is None  # 3 of 30 is not sure to be more than 5 in 100
    assert few.surely_lost == pytest.approx(100 * (3 - 3**0.5) / 30)
    small = FormatFacts(saved=30, scales=64, lost=0.0, images=200, speedup=0.5)
    assert "less than the 64 of its scales" in str(refusal(small, weight_format(4), Rules()))
    harmful = FormatFacts(saved=3000, scales=64, lost=12.5, images=200, speedup=0.0)
    assert "12.5 points" in str(refusal(harmful, weight_format(2), Rules()))
    assert refusal(harmful, weight_format(2), Rules(acceptable=10.0)) is None
    faster = FormatFacts(saved=3000, scales=64, lost=12.5, images=200, speedup=0.2)
    assert refusal(faster, weight_format(2), Rules()) is None


def test_reasons_for_8_bits() -> None:
    four, two = weight_format(4), weight_format(2)
    free, dear = {INT8: 0.0, four: 0.00004, two: 0.3}, {INT8: 0.0, four: 0.002, two: 0.3}
    saved = {INT8: 0, four: 1000, two: 1500}
    assert kept_because({}, free, saved) == "the budgets do not ask for less"
    assert kept_because({four: "a", two: "b"}, dear, saved) == "a"
    price = "4 bits would add 0.0020 nats and save 1.0 kB: 2 nats per MB"
    assert kept_because({two: "b"}, dear, saved) == price
    assert kept_because({}, {INT8: 0.0}, {INT8: 0}) == "no other format was measured"


def test_refused_widths_are_not_given_and_their_reason_is_kept(
    variants: Variants, table: Sensitivity
) -> None:
    with pytest.raises(InputError) as error:
        allocator(variants, table).allocate(Budget(size=1))
    nearest = int(re.search(r"nearest: (\d+)", str(error.value))[1])  # type: ignore[index]
    strict = allocator(variants, table, rules=Rules(acceptable=-1.0, faster=2.0))
    found = strict.allocate(Budget())
    assert set(found.weights.values()) == {INT8}
    assert all("points of agreement" in reason or "scales" in reason for reason in found.reasons.values())
    assert len(found.reasons) == len(found.weights)
    with pytest.raises(InputError, match="8 layers are refused"):
        strict.allocate(Budget(size=nearest))


def test_the_description_says_the_widths_and_what_they_are_for(graph: Graph, variants: Variants) -> None:
    weights = weights_of(dict.fromkeys(variants.layers(), 4) | {"head": 2, "stem": 8})
    counts = {name: np.asarray(graph.node(name).params["weight"]).size for name in weights}
    total, narrow, wide = sum(counts.values()), counts["head"], counts["stem"]
    said = (
        f"Weights: {100 * (total - narrow - wide) / total:.0f} % of 4 bits, {100 * wide / total:.0f} % of 8 "
        f"bits, {100 * narrow / total:.0f} % of 2 bits; activations "
    )
    purpose = str(Budget(size=3000, drop=1.5))
    end = " Chosen for a file of at most 3000 bytes and a loss of at most 1.5 points of agreement."
    made = variants.quantized(weights)
    assert described(shares(made), purpose) == f"{said}of 8 bits.{end}"
    expand = 8 * 8 * 16  # of all numbers that nodes make: test_shares counts them
    total = sum(shares(made).activations.values())
    fewer = variants.quantized(weights, {"expand": activation_format(4)})
    share = 100 * expand / total
    assert described(shares(fewer)) == f"{said}{100 - share:.0f} % of 8 bits, {share:.0f} % of 4 bits."


@pytest.mark.parametrize("seed", range(6))
def test_rules_of_a_recipe_say_the_widths(graph: Graph, variants: Variants, seed: int) -> None:
    rng = np.random.default_rng(seed)
    widths = {name: int(rng.choice([8, 4, 3, 2], p=[0.1, 0.6, 0.2, 0.1])) for name in variants.layers()}
    weights = weights_of(widths)
    activations = {"expand": activation_format(4), "mul6": activation_format(3)} if seed % 2 else {}
    base = load_recipe("w2a8")
    recipe = with_formats(base, graph, weights, activations, "mixed")
    asked = assignments(graph, recipe)
    assert {name: asked[name].weights for name in weights} == weights
    made = {n.name for n in graph.nodes}
    assert {n: asked[n].activations for n in made if asked[n].activations != UINT8} == activations
    assert (recipe.name, recipe.steps, recipe.weights.range) == ("mixed", base.steps, base.weights.range)
    assert recipe.first.activations == recipe.last.activations == UINT8


def test_float_layers_of_a_recipe_stay(graph: Graph) -> None:
    rules = {**load_recipe("w4a8").model_dump(), "override": [{"match": "head", "precision": "fp32"}]}
    recipe = Recipe.model_validate(rules)
    found = with_formats(recipe, graph, weights_of({"stem": 4, "expand": 4}), {}, "mixed")
    assert assignments(graph, found)["head"].weights == FP32


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3.5MB", 3_500_000), ("3.5 MiB", 3_670_016), ("12345", 12345), ("800kB", 800_000), (".5mb", 500_000)],
)
def test_bytes(text: str, expected: int) -> None:
    assert parse_bytes("--size", text) == expected


@pytest.mark.parametrize(("text", "expected"), [("3ms", 3.0), ("800us", 0.8), ("0.25", 0.25), ("1s", 1000.0)])
def test_milliseconds(text: str, expected: float) -> None:
    assert parse_milliseconds("--latency", text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "MB", "3 apples", "-1MB", "0", "nan", "1e3MB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InputError, match=r"--size must be a number above 0 with a unit, like 3\.5MB"):
        parse_bytes("--size", text)


def checker(variants: Variants, table: Sensitivity, graph: Graph) -> Checker:
    images = random_images(graph, 24)
    return Checker(allocator(variants, table), Meter(graph, images), images)


def test_what_is_measured_is_what_compress_makes(
    graph: Graph, variants: Variants, table: Sensitivity
) -> None:
    check = checker(variants, table, graph)
    found = check.best(Budget(size=check.allocator.allocate(Budget()).size - 300), rounds=0)
    assert found.evaluations == 1
    # biases are corrected on 16 of the 24 images, every one and a half
    some = random_images(graph, 24)[np.linspace(0, 23, 16).astype(int)]
    plain = variants.quantized(found.allocation.weights)
    made = correct_biases(plain, variants.float_graph, some, lambda stage, done: None, shrink=True)
    assert found.degradation == check.meter.of(made)


def test_checking_never_ends_with_more_degradation(
    graph: Graph, variants: Variants, table: Sensitivity
) -> None:
    check = checker(variants, table, graph)
    size = check.allocator.smallest(Budget()) + 150
    first = check.best(Budget(size=size), rounds=0)
    better = checker(variants, table, graph).best(Budget(size=size))
    assert better.degradation.kl is not None
    assert first.degradation.kl is not None
    assert better.degradation.kl <= first.degradation.kl
    assert better.allocation.size <= size
    assert better.evaluations > first.evaluations


def test_the_smallest_file_that_keeps_a_drop(graph: Graph, variants: Variants, table: Sensitivity) -> None:
    check = checker(variants, table, graph)
    widest = lost(check.measure(check.allocator.allocate(Budget())))
    found = check.smallest(Budget(drop=widest + 5.0))
    assert lost(found.degradation) <= widest + 5.0
    assert found.allocation.size <= check.allocator.allocate(Budget()).size
    if widest > 0.0:
        with pytest.raises(InputError, match="cannot be kept"):
            check.smallest(Budget(drop=0.0))


def test_toml_says_the_same(graph: Graph, variants: Variants, tmp_path: Path) -> None:
    weights = weights_of(dict.fromkeys(variants.layers(), 4) | {"stem": 8, "head": 3})
    activations = {"expand": activation_format(4)}
    recipe = with_formats(load_recipe("w2a8-distill"), graph, weights, activations, 'a "mixed" one')
    path = tmp_path / "a.toml"
    path.write_text(to_toml(recipe), "utf-8")
    assert load_recipe(path) == recipe
