"""Levels as parameters: their gradient, and that they stay different bytes in ascending order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from subbyte.compress import compress
from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph, Node, Value, verify
from subbyte.quant import QParams, QTensor, activation_table
from subbyte.quant.format import INT8
from subbyte.recipes import Recipe
from subbyte.steps.learned import LEVEL_UNIT, Learned, separate
from tests.unit.compress.networks import efficientnet_like, random_images

f32 = np.float32
BOOK = (0, 60, 64, 66, 70, 90, 140, 255)


def leveled(act: str) -> Graph:
    """A convolution that makes levels and a float32 linear layer on them. All scales are powers of two and
    all sums small, so that float32 computes everything exactly."""
    rng = np.random.default_rng(3)
    x, y = QParams(2.0**-6, 128), QParams(2.0**-5, 64, 3, BOOK)
    pre = QParams(2.0**-4, 100)
    function = {"none": lambda v: v, "relu": lambda v: np.maximum(v, 0.0)}[act]
    conv: dict[str, np.ndarray | QTensor] = {
        "weight": QTensor.from_values(rng.integers(-9, 10, (6, 3, 3, 4)), np.full(6, 2.0**-4, f32), INT8),
        "bias": rng.integers(-500, 500, 6).astype(np.int32),
        "table": activation_table(function, pre, y),
    }
    linear: dict[str, np.ndarray | QTensor] = {
        "weight": QTensor.from_values(rng.integers(-9, 10, (2, 150)), np.full(2, 2.0**-4, f32), INT8),
        "bias": np.zeros(2, np.int32),
    }
    attrs = {"stride": (1, 1), "pad": (1, 1, 1, 1), "groups": 1, "act": act}
    attrs |= {"pre_scale": pre.scale, "pre_zero": pre.zero_point}
    values = [
        *(Value("image", (5, 5, 4)), Value("x", (5, 5, 4), x), Value("y", (5, 5, 6), y)),
        *(Value("v", (150,), y), Value("z", (2,))),
    ]
    nodes = (
        Node("quantize", "quantize", ("image",), "x"),
        Node("conv", "conv2d", ("x",), "y", attrs, conv),
        Node("flatten", "flatten", ("y",), "v"),
        Node("linear", "linear", ("v",), "z", {"act": "none"}, linear),
    )
    return verify(Graph("image", ("z",), {v.name: v for v in values}, nodes))


def floats(graph: Graph) -> dict[str, Node]:
    """The layers of `leveled` before they were rounded."""
    result = {}
    for name in ("conv", "linear"):
        weight = graph.node(name).params["weight"]
        assert isinstance(weight, QTensor)
        result[name] = graph.node(name).with_(params={"weight": weight.dequantize()})
    return result


def images(graph: Graph) -> Tensor:
    numbers = np.random.default_rng(4).integers(-127, 127, (3, *graph.value("image").shape))
    return torch_executor.nchw((numbers / 64).astype(f32))


@pytest.mark.parametrize("act", ["none", "relu"])
@pytest.mark.parametrize("exact", [True, False])
def test_the_gradient_of_a_level_is_the_difference_that_a_step_of_it_makes(act: str, exact: bool) -> None:
    """Under fixed assignments the network is linear in its levels: a difference is the derivative."""
    graph, learned = leveled(act), Learned(leveled(act), floats(leveled(act)))
    x, weights = images(graph), torch.tensor([[1.0, -2.0], [3.0, 1.0], [-1.0, 2.0]])

    def loss(state: dict[str, Tensor]) -> Tensor:
        return (torch_executor.forward(graph, x, state, exact=exact)["z"] * weights).sum()

    state = learned.state()
    (moved,) = [p for name, p in learned.parameters["grid"].items() if name.endswith(":levels")]
    (gradient,) = torch.autograd.grad(loss(state), moved)
    with torch.no_grad():
        place = torch.searchsorted(torch.tensor(BOOK), state["conv:table"].int())
        for number in range(len(BOOK)):
            stepped = torch.tensor(BOOK, dtype=torch.float32)
            stepped[number] += 1.0
            difference = loss({**state, "conv:table": stepped[place]}) - loss(state)
            assert gradient[number] == (0.0 if BOOK[number] == 64 else LEVEL_UNIT * difference), number
    assert (gradient != 0.0).sum() == (7 if act == "none" else 5)


@pytest.mark.parametrize("exact", [True, False])
def test_between_levels_the_function_passes_its_slope_on(exact: bool) -> None:
    graph = leveled("none")
    state = torch_executor.state_of(graph)
    bias = state["conv:bias"] = state["conv:bias"].requires_grad_()
    made = torch_executor.forward(graph, images(graph), state, keep=True, exact=exact)
    (gradient,) = torch.autograd.grad(made["y"].sum(), bias)
    with torch.no_grad():
        plain = {**state, "conv:table": torch.arange(256.0)}
        codes = torch_executor.forward(graph, images(graph), plain, keep=True)["y"]
    real = 2 * (codes - 100) + 64  # a step of the grid before the table is two of the one behind it
    inside = ((real >= BOOK[0]) & (real <= BOOK[-1])).sum((0, 2, 3))
    assert 0 < inside.min() < inside.max() < codes[:, 0].numel()
    assert torch.equal(gradient, inside * (2.0**-10 / 2.0**-5))  # a unit of the sum, in steps of the grid


@given(
    st.integers(0, 15),
    st.permutations(range(256)),
    st.lists(st.floats(-400, 400, width=32), min_size=16, max_size=16),
)
def test_levels_stay_different_bytes_in_order(zero: int, order: list[int], moves: list[float]) -> None:
    book = sorted(order[:16])
    start = torch.tensor(book, dtype=torch.float32)
    assert torch.equal(separate(start, zero), start)
    made = separate(start + torch.tensor([*moves[:zero], 0.0, *moves[zero + 1 :]]), zero)
    assert torch.equal(made, made.round())
    QParams(1.0, book[zero], 4, tuple(int(level) for level in made))  # which checks the rest


def test_levels_that_are_apart_are_only_rounded_and_pass_gradients_on() -> None:
    levels = torch.tensor([-3.0, 9.6, 20.4, 300.0], requires_grad=True)
    made = separate(levels - torch.tensor([0.0, -0.4, 0.0, 0.0]), 1)
    assert made.tolist() == [0.0, 10.0, 20.0, 255.0]
    made.sum().backward()
    assert levels.grad is not None
    assert levels.grad.tolist() == [
        0.0,
        0.0,
        1.0,
        0.0,
    ]  # the zero point stays, and no byte is beyond the ends


@pytest.mark.parametrize("step", ["reconstruct", "distill"])
def test_a_step_moves_levels(step: str) -> None:
    graph = efficientnet_like()
    plain = {"name": "test", "activations": {"bits": 3, "levels": "learned"}}
    trained = {**plain, "steps": [step], step: {"epochs": 4, "batch": 8, "grid": 0.05}}
    before, after = (
        compress(graph, Recipe.model_validate(asked), [random_images(graph, 16)])
        for asked in (plain, trained)
    )
    moved = [
        name
        for name, value in before.values.items()
        if value.q is not None
        and value.q.levels is not None
        and value.q.levels != after.value(name).grid.levels
    ]
    assert len(moved) > 2
