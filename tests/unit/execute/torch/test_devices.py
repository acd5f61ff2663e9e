"""Every value of the torch executor is where its images are.

The meta device has shapes and devices but no numbers: an operation that mixes in a tensor of another
device, or asks for a number on the host, fails there. It stands for every device that is not at hand.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from subbyte.execute.torch import executor
from subbyte.ir import Graph
from subbyte.quant import QTensor
from subbyte.steps.augment import augmented
from subbyte.steps.learned import Learned
from tests.fuzz import graphs

MAKE: dict[str, Callable[[random.Random], Graph]] = {
    **{f"quantized {bits}": partial(graphs.quantized, bits=bits) for bits in (2, 3, 4, 8)},
    "narrow": graphs.narrow,
    "real": graphs.real,
    "mixed": graphs.mixed,
    "strided": graphs.strided,
}


@pytest.fixture(params=MAKE)
def graph(request: pytest.FixtureRequest) -> Graph:
    return MAKE[request.param](random.Random(1))


def meta_images(graph: Graph, count: int = 3) -> torch.Tensor:
    shape = graph.value(graph.input).shape
    channels_first = (shape[2], *shape[:2]) if len(shape) == 3 else shape
    return torch.empty((count, *channels_first), device="meta")


def test_state_is_made_on_the_device(graph: Graph) -> None:
    assert {tensor.device.type for tensor in executor.state_of(graph, "meta").values()} <= {"meta"}
    assert {tensor.device.type for tensor in executor.state_of(graph).values()} <= {"cpu"}


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("training", [False, True])
def test_shapes_and_devices_follow_the_images(graph: Graph, exact: bool, training: bool) -> None:
    state = executor.state_of(graph, "meta")
    if training:
        state = {name: tensor.requires_grad_() for name, tensor in state.items()}
    values = executor.forward(graph, meta_images(graph), state, keep=True, exact=exact)
    assert values.keys() == graph.values.keys()
    for name, tensor in values.items():
        shape = graph.value(name).shape
        assert tensor.device.type == "meta"
        assert tuple(tensor.shape) == (3, *((shape[2], *shape[:2]) if len(shape) == 3 else shape)), name
    if training:
        torch.stack([values[name].double().sum() for name in graph.outputs]).sum().backward()
        assert {t.grad.device.type for t in state.values() if t.grad is not None} == {"meta"}


def test_without_a_state_it_is_made_where_the_images_are(graph: Graph) -> None:
    outputs = executor.forward(graph, meta_images(graph))
    assert {tensor.device.type for tensor in outputs.values()} == {"meta"}


def test_the_integers_do_not_depend_on_the_wider_sums_of_other_devices(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere than on a CPU all sums are float64's: computed here that way."""
    x = np.random.default_rng(0).normal(size=(2, *graph.value(graph.input).shape)).astype(np.float32)
    everything = replace(graph, outputs=tuple(node.output for node in graph.nodes))
    expected = executor.run(everything, x)
    monkeypatch.setattr("subbyte.execute.torch.step._small", lambda bound: False)
    actual = executor.run(everything, x)
    for name, array in expected.items():
        assert np.array_equal(actual[name], array), name


def test_what_is_trained_is_on_the_device() -> None:
    graph = graphs.narrow(random.Random(2))
    original = {node.name: node for node in graph.nodes}
    for name, node in original.items():
        if isinstance(weight := node.params.get("weight"), QTensor):
            original[name] = node.with_(params={**node.params, "weight": weight.dequantize()})
    learned = Learned(graph, original, "meta")
    assert all(learned.parameters.values())
    outputs = executor.forward(graph, meta_images(graph), learned.state(), exact=False)
    torch.stack([tensor.sum() for tensor in outputs.values()]).sum().backward()
    for named in learned.parameters.values():
        for parameter in named.values():
            assert parameter.grad is not None
            assert parameter.device.type == parameter.grad.device.type == "meta"


def test_augmented_images_stay_where_they_are() -> None:
    x = torch.empty(2, 3, 8, 8, device="meta")
    assert augmented(x, torch.Generator().manual_seed(0)).device.type == "meta"
