"""Compression that goes on from a quantized form of the network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from subbyte.artifact import Artifact, save
from subbyte.artifact.digest import graph_digest
from subbyte.compress import compress
from subbyte.compress.model import compress_model
from subbyte.errors import ArtifactError, InputError
from subbyte.importers import Imported
from subbyte.ir import Graph
from subbyte.preprocess import Preprocessing
from subbyte.quant import QTensor
from subbyte.recipes import Distillation, Recipe
from tests.unit.compress.networks import efficientnet_like, random_images

TRAIN = Distillation(epochs=2.0, batch=8)


def recipe(*steps: str, bits: int = 4) -> Recipe:
    options = {"name": "test", "steps": steps, "weights": {"bits": bits}}
    return Recipe.model_validate({**options, **({"distill": TRAIN} if "distill" in steps else {})})


def imported(graph: Graph) -> Imported:
    return Imported(graph, Preprocessing(8, 8, (0.0,) * 3, (1.0,) * 3))


@pytest.fixture
def graph() -> Graph:
    return efficientnet_like()


@pytest.fixture
def images(graph: Graph) -> np.ndarray:
    return random_images(graph, 16)


def widths(graph: Graph) -> dict[str, int]:
    """Layer to bits of its weights, where they are quantized."""
    weights = {node.name: node.params.get("weight") for node in graph.nodes}
    return {name: weight.bits for name, weight in weights.items() if isinstance(weight, QTensor)}


def saved(graph: Graph, path: Path) -> Path:
    save(path, Artifact(graph, {"name": "first"}, imported(graph).preprocessing, None, {}))
    return path


@pytest.mark.parametrize("step", ["distill", "reconstruct", "bias_correction"])
def test_two_runs_make_what_one_makes(step: str, graph: Graph, images: np.ndarray) -> None:
    rounded = compress(graph, recipe(), [images])
    once = compress(graph, recipe(step), [images])
    twice = compress(graph, recipe(step), [images], start=rounded)
    assert graph_digest(twice) == graph_digest(once) != graph_digest(rounded)


def test_bit_widths_are_those_of_the_start(graph: Graph, images: np.ndarray) -> None:
    rounded = compress(graph, recipe(bits=2), [images])
    made = compress(graph, recipe("distill", bits=8), [images], start=rounded)
    assert widths(made) == widths(rounded)
    assert 2 in widths(made).values()


def test_a_start_needs_steps_that_go_on_from_it(graph: Graph, images: np.ndarray) -> None:
    rounded = compress(graph, recipe(), [images])
    with pytest.raises(InputError, match="recipe test has no steps, which go on from a file: "):
        compress(graph, recipe(), [images], start=rounded)
    for step in ("gptq", "prune"):
        with pytest.raises(InputError, match=f"the step '{step}' works on float weights"):
            compress(graph, recipe(step, "distill"), [images], start=rounded)


def test_a_start_of_another_network_is_refused(graph: Graph, images: np.ndarray) -> None:
    rounded = compress(graph, recipe(), [images])
    last = rounded.nodes[-1]
    values = {name: value for name, value in rounded.values.items() if name != last.output}
    cut = replace(rounded, nodes=rounded.nodes[:-1], values=values, outputs=(last.inputs[0],))
    with pytest.raises(
        InputError, match=rf"no quantized form of the network: 1 of its values differ, like '{last.output}'"
    ):
        compress(graph, recipe("distill"), [images], start=cut)
    with pytest.raises(InputError, match="is not quantized; give it as the model"):
        compress(graph, recipe("distill"), [images], start=graph)


def test_an_artifact_says_what_it_began_with(graph: Graph, images: np.ndarray, tmp_path: Path) -> None:
    first = saved(compress(graph, recipe(), [images]), tmp_path / "first.subbyte")
    made = compress_model(imported(graph), recipe("distill"), [images], start=first)
    start = made.provenance["start"]
    assert start["file"] == "first.subbyte"
    assert start["recipe"] == {"name": "first"}
    assert made.recipe["steps"] == ["distill"]


def test_a_start_of_other_images_or_none_is_refused(graph: Graph, images: np.ndarray, tmp_path: Path) -> None:
    first = saved(compress(graph, recipe(), [images]), tmp_path / "first.subbyte")
    other = replace(imported(graph), preprocessing=Preprocessing(8, 8, (0.5,) * 3, (1.0,) * 3))
    with pytest.raises(InputError, match=r"first.subbyte reads images as .*; begin with a file"):
        compress_model(other, recipe("distill"), [images], start=first)
    with pytest.raises(ArtifactError):
        compress_model(imported(graph), recipe("distill"), [images], start=tmp_path / "none.subbyte")


def test_a_start_needs_a_recipe(graph: Graph, images: np.ndarray, tmp_path: Path) -> None:
    rounded = compress(graph, recipe(), [images])
    first = saved(rounded, tmp_path / "first.subbyte")
    with pytest.raises(InputError, match="only a recipe makes use of a file to begin with"):
        compress_model(imported(rounded), start=first)
