"""Allocation: the integer program beside brute force, exact bytes, refusals, and errors that help."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from subbyte import save
from subbyte.allocate.budget import Budget, parse_bytes, parse_milliseconds
from subbyte.allocate.check import Checker, lost
from subbyte.allocate.program import GroupItem, LayerItem, LayerOption, Program, solve
from subbyte.allocate.recipe import described, to_toml, with_formats
from subbyte.allocate.refuse import FormatFacts, Rules, kept_because, refusal
from subbyte.analysis.degradation import Meter
from subbyte.analysis.table import Sensitivity
from subbyte.compress import compress
from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.ir.shares import shares
from subbyte.quant import Format, QTensor, activation_format, weight_format
from subbyte.quant.format import FP32, INT8, UINT8
from subbyte.quantize.assignment import assignments
from subbyte.quantize.variants import Variants
from subbyte.recipes import Recipe, load_recipe
from subbyte.steps.bias_correction import correct_biases
from tests.unit.allocate.setting import allocator, wrap
from tests.unit.compress.networks import efficientnet_like, random_images


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


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


def test_the_least_size_is_all_narrow() -> None:
    p = program(3, groups=False)
    found = solve(p, goal="size")
    assert found is not None
    assert set(found.weights.values()) == {weight_format(2)}


@pytest.fixture(scope="module")
def graph() -> Graph:
    return efficientnet_like()


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
