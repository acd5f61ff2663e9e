"""The step 'gptq' on whole networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from subbyte.analysis.degradation import Meter
from subbyte.execute import reference
from subbyte.execute.native import Session
from subbyte.ir import Graph
from subbyte.quant import QTensor, weight_format
from subbyte.quantize.variants import Variants
from subbyte.recipes import Gptq, load_recipe
from subbyte.steps import gptq
from subbyte.steps.bias_correction import correct_biases
from subbyte.steps.context import Context
from tests.unit.compress.networks import efficientnet_like, random_images

WIDE = ("stem", "classifier")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def context() -> Context:
    """A network of 2-bit weights between an 8-bit stem and an 8-bit classifier."""
    variants = Variants(efficientnet_like(), load_recipe("w2a8"))
    images = random_images(variants.graph, 48)
    variants.calibrate([images[:24]], lambda stage, done: None)
    narrow = {name: weight_format(2) for name in variants.layers() if name not in WIDE}
    graph = variants.quantized(narrow)
    return Context(graph, variants.float_graph, images[:24], None, Gptq(), 3, lambda stage, done: None)


def weights(graph: Graph) -> dict[str, QTensor]:
    found = {node.name: node.params.get("weight") for node in graph.nodes}
    return {name: weight for name, weight in found.items() if isinstance(weight, QTensor)}


def test_networks_lose_less_and_keep_their_formats(context: Context) -> None:
    made = gptq.run(context)
    before, after = weights(context.graph), weights(made)
    changed = set()
    for name, old in before.items():
        new = after[name]
        assert (new.format, new.shape) == (old.format, old.shape)
        np.testing.assert_array_equal(new.levels, old.levels)
        if not np.array_equal(new.codes, old.codes):
            changed.add(name)
    assert changed >= {"expand", "project", "head"}
    assert not changed & {"depthwise", *WIDE}
    meter = Meter(context.original, random_images(context.original, 48)[24:])
    nearest = correct_biases(context.graph, context.original, context.images, context.progress)
    assert meter.of(made).mse < meter.of(nearest).mse


def test_the_engine_runs_its_integers(context: Context) -> None:
    made = gptq.run(context)
    images = context.images[:4]
    (name,) = made.outputs
    np.testing.assert_array_equal(Session(made).run(images), reference.run(made, images)[name])


def test_interrupted_it_goes_on_to_the_same_network(context: Context, tmp_path: Path) -> None:
    whole = gptq.run(context)

    def stop(stage: str, done: int) -> None:
        if done == 3 and stage.startswith("gptq"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gptq.run(replace(context, work=tmp_path, progress=stop))
    assert len(list(tmp_path.iterdir())) == 3
    again = weights(gptq.run(replace(context, work=tmp_path)))
    for name, weight in weights(whole).items():
        np.testing.assert_array_equal(again[name].codes, weight.codes)
        np.testing.assert_array_equal(again[name].scale, weight.scale)


def test_layers_of_too_many_weights_per_output_are_left(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gptq, "LARGEST", 1)
    made = weights(gptq.run(context))
    for name, weight in weights(context.graph).items():
        np.testing.assert_array_equal(made[name].codes, weight.codes)
