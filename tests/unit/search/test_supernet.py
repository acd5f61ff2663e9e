"""Shared weights: a candidate computes what a network by itself with copies of them computes."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from subbyte.quant import weight_format
from subbyte.search import Space
from subbyte.search.supernet import Sandwich, Supernet, network_of, resized, rounded, standalone
from subbyte.tasks.table import TASKS


@pytest.fixture(scope="module")
def supernet(space: Space) -> Supernet:
    torch.manual_seed(0)
    return Supernet(space, 3)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(4, 3, 24, 24, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("seed", range(4))
def test_a_slice_is_the_network_by_itself(space: Space, supernet: Supernet, x: Tensor, seed: int) -> None:
    candidate = space.random(random.Random(seed))
    alone = standalone(candidate, 3).train()
    alone.load_state_dict(supernet.weights(candidate), strict=False)
    made = supernet.train()(x, candidate)
    assert torch.equal(made, alone(resized(x, candidate.resolution)))


def test_weights_are_shared(space: Space, supernet: Supernet) -> None:
    """The first channels and the middle of kernels; kinds of blocks have their own."""
    chosen = {name: values[0] for name, values in space.lists().items()}
    small = supernet.weights(space.candidate(chosen))
    large = supernet.weights(
        space.candidate({**chosen, "stage1.kernel": 5, "stage1.expand": 4, "stage1.channels": 24})
    )
    name = "blocks.1.0.conv_dw.weight"
    assert torch.equal(small[name], large[name][:16, :, 1:-1, 1:-1])
    name = "blocks.1.0.conv_pwl.weight"
    assert torch.equal(small[name], large[name][:16, :16])
    assert small[name].data_ptr() == large[name].data_ptr()
    other = supernet.weights(space.candidate({**chosen, "stage1.kind": "er"}))
    assert other[name].data_ptr() != small[name].data_ptr()


def test_every_shared_weight_is_drawn(supernet: Supernet) -> None:
    assert all((p != 0).float().mean() > 0.99 for p in supernet.parameters() if p.ndim > 1)


def test_statistics_are_those_of_the_batches(space: Space, supernet: Supernet, x: Tensor) -> None:
    """With one batch, a network with its statistics answers that batch as in training; PyTorch keeps the
    unbiased variance, n / (n - 1) times the one it divides by, the only difference."""
    candidate = space.largest
    network = network_of(supernet, candidate, [x])
    assert all(m.momentum == 0.1 for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    seen: list[Tensor] = []
    network.conv_stem.register_forward_hook(lambda module, given, made: seen.append(made))
    with torch.no_grad():
        network(x)
    norm = network.bn1
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert torch.allclose(norm.running_mean, seen[0].mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(norm.running_var, seen[0].var((0, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize(("text", "values"), [("int4", 15), ("int8+2:4", 255), ("int2", 3)])
def test_rounding(text: str, values: int) -> None:
    format = weight_format(text)
    weight = torch.randn(6, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    made = rounded(weight, format)
    assert max(len(row.unique()) for row in made.flatten(1)) <= values
    groups = made.permute(0, 2, 3, 1).reshape(-1, 4)
    if format.pattern.mask is not None:
        assert int((groups != 0).sum(1).max()) == 2
    away = (made - weight).abs()[made != 0] if format.pattern.mask is not None else (made - weight).abs()
    step = weight.flatten(1).abs().amax(1).max() / ((1 << (format.bits - 1)) - 1)
    assert float(away.max()) <= 0.5001 * float(step)


def test_gradients_pass_the_rounding(space: Space, supernet: Supernet, x: Tensor) -> None:
    supernet.zero_grad()
    supernet.train()(x, space.smallest).sum().backward()
    assert space.smallest.stages[1].weights == "int4"
    gradient = supernet.get_parameter("blocks/1/ir/0/conv_pw/weight").grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_the_sandwich_trains_the_ends_and_some_between(space: Space) -> None:
    asked: list[object] = []

    def network(x: Tensor, candidate: object = None) -> Tensor:
        asked.append(candidate)
        return x

    loss: Callable[[Tensor], Tensor] = lambda made: made.sum()  # noqa: E731
    objective, x = Sandwich(space, TASKS["classification"], 2), torch.randn(2, 3)
    torch.manual_seed(3)
    total = objective(network, x, loss)
    assert asked[:2] == [None, space.smallest]
    assert len(asked) == 4
    assert torch.equal(total, x.sum())  # what answers like the largest adds nothing
    torch.manual_seed(3)
    first, asked[:] = list(asked), []
    objective(network, x, loss)
    assert asked == first


def test_masks_lie_along_inputs() -> None:
    weight = torch.arange(1.0, 9.0).reshape(1, 8, 1, 1)
    kept = rounded(weight, weight_format("int8+2:4")).flatten().numpy()
    assert np.array_equal(np.flatnonzero(kept), [2, 3, 6, 7])
