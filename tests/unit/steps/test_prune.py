"""The step 'prune': zeros where formats have patterns, before rounding; what later steps see of it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from subbyte.compress import compress
from subbyte.errors import GraphError, RecipeError
from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph
from subbyte.prune.layout import blocks_kept, layout_of, magnitude
from subbyte.quant import Format, QTensor
from subbyte.quant.format import WEIGHT_FORMATS
from subbyte.quant.packing import pack, packed_size, unpack
from subbyte.quant.pattern import Pattern
from subbyte.recipes import STEPS, Pruning, Recipe, Step, load_recipe
from subbyte.steps import prune
from subbyte.steps.context import Context
from tests.unit.compress.networks import FloatNetwork, efficientnet_like, random_images

PATTERNS = ("2:4", "2x4:50")
PRUNED = ("expand", "project", "head")
TRAINED = {"epochs": 1.0, "batch": 8}


SEEN: list[Context] = []


def look(context: Context) -> Graph:
    """A step that changes nothing."""
    SEEN.append(context)
    return context.graph


def pattern(name: str) -> Pattern:
    """Of this name, whose zeros are stored."""
    layout = layout_of(name)

    def mask(weight: np.ndarray) -> np.ndarray:
        return layout.spread(blocks_kept(magnitude(weight, layout), weight.shape, layout), weight.shape)

    return Pattern(name, lambda shape, bits: packed_size(math.prod(shape), bits), pack, unpack, mask)


@pytest.fixture(autouse=True)
def _rows(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    for name in PATTERNS:
        monkeypatch.setitem(WEIGHT_FORMATS, f"int8+{name}", Format("int", 8, pattern=pattern(name)))


def recipe(name: str, *steps: str, **tables: object) -> Recipe:
    dense = {"role": "depthwise", "weights": "int8"}
    weights = {"bits": f"int8+{name}"}
    return Recipe.model_validate(
        {"name": "r", "weights": weights, "override": [dense], "steps": steps, **tables}
    )


def context(graph: Graph, name: str, **changes: object) -> Context:
    formats = dict.fromkeys(PRUNED, Format("int", 8, pattern=pattern(name)))
    images = random_images(graph, 24)
    plain = Context(graph, graph, images, None, Pruning(), 0, lambda stage, done: None, formats=formats)
    return replace(plain, **changes)  # type: ignore[arg-type]


def weight(graph: Graph, name: str) -> np.ndarray:
    found = graph.node(name).params["weight"]
    return found.values() if isinstance(found, QTensor) else np.asarray(found)


def same(a: Graph, b: Graph) -> bool:
    roles = [(node.name, role) for node in a.nodes for role in ("weight", "bias") if role in node.params]
    return all(
        np.array_equal(np.asarray(a.node(name).params[role]), np.asarray(b.node(name).params[role]))
        for name, role in roles
    )


@pytest.fixture
def graph() -> Graph:
    return efficientnet_like()


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("method", ["magnitude", "wanda", "obc"])
def test_layers_with_a_pattern_get_its_zeros_and_no_others(graph: Graph, name: str, method: str) -> None:
    made = prune.run(context(graph, name, configuration=Pruning.model_validate({"method": method})))
    assert [node.name for node in made.nodes] == [node.name for node in graph.nodes]
    for node in graph.nodes:
        if "weight" not in node.params:
            continue
        kept = weight(made, node.name) != 0
        if node.name in PRUNED:
            layout = layout_of(name)
            blocks = magnitude(weight(made, node.name), layout) > 0
            assert np.array_equal(kept, layout.spread(blocks, kept.shape))
            count = kept.size // 2 if layout.group else layout.kept(kept.shape)
            assert blocks.sum() == count
        else:
            assert made.node(node.name) is node


def test_what_is_kept_by_magnitude_alone_stays_as_it_was(graph: Graph) -> None:
    plain = Pruning(method="magnitude", compensate=False)
    made = prune.run(context(graph, "2:4", configuration=plain))
    mask = pattern("2:4").mask
    assert mask is not None
    for name in PRUNED:
        before = weight(graph, name)
        assert np.array_equal(weight(made, name), np.where(mask(before), before, np.float32(0)))
        assert np.array_equal(
            np.asarray(made.node(name).params["bias"]), np.asarray(graph.node(name).params["bias"])
        )


@pytest.mark.parametrize("name", PATTERNS)
def test_compensation_brings_the_layer_closer(name: str) -> None:
    """Of a layer without activation, on the images that it was chosen with; what damping adds is below 1e-4
    of the error."""
    net = FloatNetwork((6, 6, 8))
    graph = net.graph(net.conv("project", "image", 12, 3))
    errors = []
    for compensate in (True, False):
        asked = Pruning(method="magnitude", compensate=compensate, rows=1e6, damping=1e-6)
        start = context(graph, name, configuration=asked)
        formats = dict.fromkeys(["project"], Format("int", 8, pattern=pattern(name)))
        made = prune.run(replace(start, formats=formats))
        out, exact = (torch_executor.run(g, start.images)["project:out"] for g in (made, graph))
        errors.append(float(((out - exact) ** 2).mean()))
    assert errors[0] < errors[1]


def test_the_seed_decides_and_an_interrupted_run_goes_on(graph: Graph, tmp_path: Path) -> None:
    asked = Pruning(rows=4.0)  # draws positions
    first, again, other = (
        prune.run(context(graph, "2x4:50", configuration=asked, seed=seed)) for seed in (1, 1, 2)
    )
    assert same(first, again)
    assert not same(first, other)

    def stop(stage: str, done: int) -> None:
        if stage.startswith("prune") and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune.run(context(graph, "2x4:50", configuration=asked, seed=1, work=tmp_path, progress=stop))
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["prune-000.pt", "prune-001.pt"]
    stamps = [(tmp_path / name).stat().st_mtime_ns for name in kept]
    went_on = prune.run(context(graph, "2x4:50", configuration=asked, seed=1, work=tmp_path))
    assert same(first, went_on)
    assert [(tmp_path / name).stat().st_mtime_ns for name in kept] == stamps


def test_rounding_and_training_keep_the_zeros_and_learn_from_the_dense_network(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    SEEN.clear()
    monkeypatch.setitem(STEPS, "look", Step(f"{__name__}:look"))
    images = [random_images(graph, 16)]
    made = compress(
        graph,
        recipe(
            "2x4:50",
            *("prune", "bias_correction", "look", "reconstruct", "distill"),
            prune={"rounds": 3},
            reconstruct={**TRAINED, "narrow_only": False},
            distill=TRAINED,
        ),
        images,
        work=tmp_path,
    )
    (context,) = SEEN
    assert same(context.teacher, graph)
    assert not same(context.original, graph)
    for name in PRUNED:
        zeros = weight(context.original, name) == 0
        assert zeros.any()
        assert not weight(context.graph, name)[zeros].any()
        assert not weight(made, name)[zeros].any()
    assert not same(context.graph, made)


def test_without_the_step_the_teacher_is_the_network(graph: Graph) -> None:
    plain = context(graph, "2:4")
    assert plain.teacher is plain.original


def test_errors(graph: Graph) -> None:
    with pytest.raises(RecipeError, match="'prune' has nothing to do: no layer's format has a pattern"):
        compress(
            graph, load_recipe("w8a8").model_copy(update={"steps": ("prune",)}), [random_images(graph, 2)]
        )
    with pytest.raises(ValueError, match="'prune' works on weights before they are rounded; list it first"):
        recipe("2:4", "bias_correction", "prune")
    odd = {"expand": Format("int", 8, pattern=replace(pattern("2:4"), name="odd"))}
    with pytest.raises(
        GraphError, match="weights are chosen for patterns like 2:4 or 4x16:50, not for 'odd'"
    ):
        prune.run(context(graph, "2:4", formats=odd))


def test_its_options_stand_in_files_where_they_are_used() -> None:
    assert "prune" not in recipe("2:4").model_dump()
    assert recipe("2:4", "prune").model_dump()["prune"] == {}
    stored = recipe("2:4", "prune", prune={"method": "wanda"}).model_dump()
    assert stored["prune"] == {"method": "wanda"}
    assert Recipe.model_validate(stored).configuration("prune") == Pruning(method="wanda")
