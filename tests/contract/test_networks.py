"""Whole networks: reference, torch executor and engine give the same logits at every weight width."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from subbyte import models
from subbyte.compress import compress
from subbyte.data.samples import image_folder, load_image
from subbyte.execute import reference
from subbyte.execute.native import Session, available_isas
from subbyte.execute.torch import executor as torch_executor
from subbyte.importers.torch_export import capture
from subbyte.ir import Graph
from subbyte.passes import optimize
from subbyte.preprocess import Preprocessing
from subbyte.quant import QTensor
from subbyte.recipes import load_recipe

DEMO = Path(__file__).resolve().parents[2] / "demo"
SIDE = 96  # the networks take any size; the reference is slow
NETWORKS = ("tf_efficientnetv2_b0", "tf_efficientnet_lite0")


def images(folder: str, preprocessing: Preprocessing, count: int) -> np.ndarray:
    samples = image_folder(DEMO / folder)[:count]
    return np.stack([load_image(sample.path, preprocessing) for sample in samples])


@functools.cache
def network(name: str) -> tuple[Graph, np.ndarray, np.ndarray]:
    """Float graph with seeded random weights, calibration images, test images."""
    torch.set_num_threads(1)
    loaded = models.load(name, "random:0")
    preprocessing = replace(loaded.preprocessing, height=SIDE, width=SIDE)
    graph = optimize(capture(loaded.module, (SIDE, SIDE, 3)))
    return graph, images("calibration", preprocessing, 6), images("images", preprocessing, 2)


@pytest.mark.parametrize("recipe", ["w8a8", "w4a8", "w2a8"])
@pytest.mark.parametrize("name", NETWORKS)
def test_three_executors_give_equal_logits(name: str, recipe: str) -> None:
    float_graph, calibration, images = network(name)
    graph = compress(float_graph, load_recipe(recipe), [calibration])
    weights = [node.params["weight"] for node in graph.nodes if "weight" in node.params]
    assert int(recipe[1]) in {weight.bits for weight in weights if isinstance(weight, QTensor)}
    assert all(isinstance(weight, QTensor) for weight in weights)
    expected = reference.run(graph, images)[graph.outputs[0]]
    assert expected.shape == (2, 1000)
    assert expected.dtype == np.float32
    assert len(np.unique(expected)) > 500  # the network did not collapse
    assert not np.array_equal(expected[0], expected[1])
    assert np.array_equal(torch_executor.run(graph, images)[graph.outputs[0]], expected)
    for isa in available_isas():
        for threads in (1, 2):
            session = Session(graph, isa=isa, threads=threads)
            assert {row["isa"] for row in session.plan()} == {isa}
            assert np.array_equal(session.run(images), expected), f"{isa}, {threads} threads"
