"""Views of values become the nodes that torch's own copies of them are."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from subbyte.execute import reference
from subbyte.importers.rules.builder import Rejected
from subbyte.importers.rules.operands import Builder, Operand, seen
from subbyte.importers.rules.strides import covers, cut_of
from subbyte.ir import Graph


def changed(rng: random.Random, view: torch.Tensor) -> torch.Tensor:
    """A random view of a view, [1, ...]."""
    match rng.randrange(5):
        case 0:
            axes = list(range(1, view.ndim))
            return view.permute(0, *rng.sample(axes, len(axes)))
        case 1:
            axis = rng.randrange(1, view.ndim)
            extent = view.shape[axis]
            divisor = rng.choice([d for d in range(1, extent + 1) if extent % d == 0])
            return view.unflatten(axis, (divisor, extent // divisor)) if view.ndim < 6 else view
        case 2:
            axis = rng.randrange(1, view.ndim)
            begin = rng.randrange(view.shape[axis])
            return view.narrow(axis, begin, rng.randint(1, view.shape[axis] - begin))
        case 3:
            axis = rng.randrange(1, view.ndim)
            return view[(slice(None),) * axis + (slice(None, None, rng.randint(1, 3)),)]
        case _:
            axis = rng.randrange(1, view.ndim + 1)
            shape = [*view.shape[:axis], rng.randint(1, 3), *view.shape[axis:]]
            return view.unsqueeze(axis).expand(shape) if view.ndim < 6 else view


@pytest.mark.parametrize("seed", range(60))
def test_what_is_made_of_a_view_is_what_torch_copies(seed: int) -> None:
    rng = random.Random(seed)
    height, width, channels = rng.randint(1, 5), rng.randint(1, 5), rng.choice([1, 4, 6, 12])
    x = np.random.default_rng(seed).normal(size=(1, height, width, channels)).astype(np.float32)
    real = torch.from_numpy(x).permute(0, 3, 1, 2)
    for _ in range(rng.randint(1, 6)):
        real = changed(rng, real)
    b = Builder((height, width, channels), frozenset())
    size = (1, 1, real.numel())
    start = b.made(b.emit("activation", [b.input], {"act": "none"}), (1, channels, height, width))
    operand = Operand(start.value, tuple(real.shape), real.stride(), int(real.storage_offset()))
    try:
        made = b.ordered(operand, operand.view, size)
    except Rejected:
        assert cut_of(operand.view, (height, width, channels)) is None
        return
    graph: Graph = b.finish([made])
    (result,) = reference.run(graph, x).values()
    assert np.array_equal(result.reshape(-1), real.reshape(-1).numpy())


def test_a_whole_map_in_its_order_costs_nothing() -> None:
    b = Builder((3, 4, 6), frozenset())
    start = b.made(b.emit("activation", [b.input], {"act": "relu"}), (1, 6, 3, 4))
    last = seen(start.value, start.view.permute((0, 2, 3, 1)))
    assert b.rows(last) == start.value
    back = seen(last.value, last.view.permute((0, 3, 1, 2)))
    assert b.map(back) == start.value
    assert covers(back.view, 72)
