"""A weight format is a row, or, for a sparsity pattern, a rule: 8-bit weights of which every second output
channel's are stored, asked for by their text.

A real one touches subbyte/quant/sparsity.py (its rule), or a new file with its Pattern, and
docs/spec/artifact.md (its bytes). The engine runs it as dense values, and finds zeros by itself.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from subbyte import Artifact, load, save
from subbyte.allocate.allocator import Allocator
from subbyte.allocate.costs import Costs
from subbyte.allocate.program import solve
from subbyte.allocate.recipe import described, with_formats
from subbyte.allocate.refuse import Rules
from subbyte.analysis.sensitivity import sensitivity
from subbyte.analysis.table import parse_formats, read_sensitivity
from subbyte.compress import compress
from subbyte.device import Target, find_target, node_bytes
from subbyte.errors import ArtifactError, GraphError, RecipeError
from subbyte.execute import reference
from subbyte.execute.native import Session
from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph
from subbyte.ir.shares import shares
from subbyte.preprocess import Preprocessing
from subbyte.quant import Format, QTensor, sparsity
from subbyte.quant.format import INT8, UINT8, WEIGHT_FORMATS, parse_format
from subbyte.quant.packing import pack, packed_size, unpack
from subbyte.quant.pattern import Pattern
from subbyte.quantize.variants import Variants
from subbyte.recipes import Recipe, load_recipe
from tests.unit.compress.networks import efficientnet_like, random_images

NAME = "int8+even"


def mask(weight: np.ndarray) -> np.ndarray:
    """The first output channel, and every second after it."""
    rows = np.arange(len(weight)) % 2 == 0
    return np.broadcast_to(rows.reshape(-1, *[1] * (weight.ndim - 1)), weight.shape)


def holds(nonzero: np.ndarray) -> bool:
    return not nonzero[1::2].any()


def size(shape: tuple[int, ...], bits: int) -> int:
    return packed_size(math.prod((-(-shape[0] // 2), *shape[1:])), bits)


def packed(codes: np.ndarray, bits: int) -> np.ndarray:
    return pack(codes[::2], bits)


def unpacked(stored: np.ndarray, shape: tuple[int, ...], bits: int) -> np.ndarray:
    codes = np.zeros(shape, np.uint8)
    codes[::2] = unpack(stored, codes[::2].shape, bits)
    return codes


EVEN = Pattern("even", size, packed, unpacked, mask, holds)
SPARSE = Format("int", 8, pattern=EVEN)


@pytest.fixture(autouse=True)
def _row(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(
        sparsity, "PATTERNS", [*sparsity.PATTERNS, lambda name: EVEN if name == "even" else None]
    )


def recipe(**changes: object) -> Recipe:
    return Recipe.model_validate({"name": "sparse", "weights": {"bits": NAME}, **changes})


def weights(graph: Graph) -> dict[str, QTensor]:
    found = {node.name: node.params.get("weight") for node in graph.nodes}
    return {name: weight for name, weight in found.items() if isinstance(weight, QTensor)}


def check_sparse(made: dict[str, QTensor]) -> None:
    """Groups and squeeze-and-excitation have formats of their own, depthwise layers are dense; all else is
    sparse, and not empty."""
    sparse = [weight for weight in made.values() if weight.format == SPARSE]
    assert len(sparse) == 3
    for weight in sparse:
        assert weight.codes[::2].any()
        assert not weight.codes[1::2].any()
    assert {weight.format for weight in made.values()} == {SPARSE, INT8}


@pytest.fixture
def graph() -> Graph:
    return efficientnet_like()


def test_its_text_is_read_and_written() -> None:
    assert parse_format(NAME) == SPARSE
    assert str(SPARSE) == NAME
    assert recipe().model_dump(mode="json")["weights"]["bits"] == NAME
    assert Recipe.model_validate(recipe().model_dump()) == recipe()
    assert parse_formats("weights", f"8,{NAME},int4") == (INT8, SPARSE, WEIGHT_FORMATS["int4"])
    assert SPARSE.width == 4.0
    with pytest.raises(GraphError, match=r"unknown format 'int8\+odd'; known: int8, "):
        parse_format("int8+odd")


def test_from_a_recipe_to_a_file_and_to_the_executors(graph: Graph, tmp_path: Path) -> None:
    images = random_images(graph, 4)
    made = compress(graph, recipe(), [images])
    check_sparse(weights(made))
    dense = compress(graph, recipe(weights={"bits": 8}), [images])
    save(tmp_path / "sparse.subbyte", wrap(made))
    again = load(tmp_path / "sparse.subbyte").graph
    for name, weight in weights(made).items():
        assert weights(again)[name].format == weight.format
        np.testing.assert_array_equal(weights(again)[name].codes, weight.codes)
    for one in weights(made):
        saved = node_bytes(dense.node(one)) - node_bytes(made.node(one))
        weight = weights(made)[one]
        assert saved == (weight.codes.size - size(weight.shape, 8) if weight.format == SPARSE else 0)
    (output,) = made.outputs
    expected = reference.run(again, images)[output]
    np.testing.assert_array_equal(torch_executor.run(again, images)[output], expected)
    np.testing.assert_array_equal(Session(again).run(images), expected)


def test_training_keeps_the_zeros(graph: Graph) -> None:
    steps = {"steps": ["reconstruct"], "reconstruct": {"epochs": 1.0, "batch": 8}}
    images = random_images(graph, 16)
    rounded, trained = (weights(compress(graph, recipe(**more), [images])) for more in ({}, steps))
    check_sparse(trained)
    assert any((trained[name].codes != weight.codes).any() for name, weight in rounded.items())


def test_weights_that_break_it_are_refused(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"do not follow the pattern of int8\+even"):
        QTensor.from_values(np.ones((2, 4), int), np.ones(2, np.float32), SPARSE)
    with pytest.raises(
        GraphError, match="only dense weights and activations below 8 bits can have a code book"
    ):
        Format("int", 4, book=True, pattern=SPARSE.pattern)


def test_an_earlier_version_refuses_it(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = compress(graph, recipe(), [random_images(graph, 2)])
    save(tmp_path / "sparse.subbyte", wrap(made))
    monkeypatch.undo()
    with pytest.raises(
        ArtifactError, match=r"format 'int8\+even'; this version knows int8, int4, int3, int2"
    ):
        load(tmp_path / "sparse.subbyte")
    bad = tmp_path / "bad.toml"
    bad.write_text(f'name = "x"\n[weights]\nbits = "{NAME}"\n')
    with pytest.raises(
        RecipeError, match=r"weights can be int8, int4, int3, int2, each with .*, not 'int8\+even'"
    ):
        load_recipe(bad)


def wrap(graph: Graph, recipe: Recipe | None = None) -> Artifact:
    described = {} if recipe is None else recipe.model_dump(mode="json")
    return Artifact(graph, described, Preprocessing(8, 8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))


def test_analysis_and_allocation_choose_it(graph: Graph, tmp_path: Path) -> None:
    images, variants = random_images(graph, 8), Variants(graph, load_recipe("w8a8"))
    formats = parse_formats("weights", f"8,{NAME}")
    path = tmp_path / "s.json"
    table = sensitivity(variants, images, weights=formats, activations=(UINT8,), output=path)
    assert read_sensitivity(path) == table
    assert {row.format for row in table.rows if row.kind == "weights"} == {INT8, SPARSE}
    host, other = find_target("host"), find_target("raspberry-pi-5")
    host.prepare({str(f): variants.quantized(dict.fromkeys(variants.layers(), f)) for f in formats})

    def smallest(target: Target) -> dict[str, Format]:
        costs = Costs(variants, table, target, (), Rules(acceptable=100.0))
        found = solve(Allocator(variants, costs, load_recipe("w8a8"), wrap).program(), goal="size")
        assert found is not None
        return found.weights

    chosen = smallest(host)
    assert set(chosen.values()) == {INT8, SPARSE}
    assert set(smallest(other).values()) == {INT8}  # its profile has no such row
    mixed = with_formats(load_recipe("w8a8"), graph, chosen, {}, "mixed")
    made = weights(compress(graph, mixed.model_copy(update={"steps": ()}), [images]))
    assert {name: weight.format for name, weight in made.items()} == chosen
    assert f"% of {NAME}" in described(shares(variants.quantized(chosen)))
