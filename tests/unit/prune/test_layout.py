"""What a pattern's name says can go together, and how much stays."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from subbyte.errors import GraphError
from subbyte.prune.layout import blocks_kept, layout_of, magnitude


def test_names() -> None:
    groups, blocks = layout_of("2:4"), layout_of("4x16:62.5")
    assert (groups.inputs, groups.outputs, groups.most, groups.group) == (1, 1, 2, 4)
    assert (blocks.inputs, blocks.outputs, blocks.share, blocks.group) == (4, 16, Fraction(5, 8), 0)


@pytest.mark.parametrize(
    "text", ["dense", "4:4", "5:4", "0:4", "4x16", "4x16:0", "4x16:101", "0x4:50", "2:4 "]
)
def test_no_pattern(text: str) -> None:
    with pytest.raises(GraphError, match="weights are chosen for patterns like 2:4 or 4x16:50, not for"):
        layout_of(text)


@pytest.mark.parametrize("shape", [(32, 8), (33, 10), (5, 3), (20, 3, 3, 6), (16, 1, 1, 24)])
@pytest.mark.parametrize("percent", [1, 25, 50, 62.5, 100])
def test_blocks_are_counted_exactly(shape: tuple[int, ...], percent: float) -> None:
    """Also where channels do not come out even; the blocks of most squares stay."""
    layout = layout_of(f"4x16:{percent:g}")
    weight = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    sums = {}
    for o in range(0, shape[0], 16):
        for t in range(math.prod(shape[1:-1])):
            for i in range(0, shape[-1], 4):
                part = weight.reshape(shape[0], -1, shape[-1])[o : o + 16, t, i : i + 4]
                sums[o, t, i] = (part.astype(np.float64) ** 2).sum()
    kept = blocks_kept(magnitude(weight, layout), shape, layout)
    mask = layout.spread(kept, shape).reshape(shape[0], -1, shape[-1])
    best = sorted(sums, key=sums.__getitem__, reverse=True)[: math.ceil(percent * len(sums) / 100)]
    for o, t, i in sums:
        assert (mask[o : o + 16, t, i : i + 4] == ((o, t, i) in best)).all()


@pytest.mark.parametrize("channels", [3, 8, 10])
def test_groups_lie_along_the_inputs_of_a_tap(channels: int) -> None:
    layout = layout_of("2:4")
    weight = np.random.default_rng(1).normal(size=(6, 3, 3, channels)).astype(np.float32)
    mask = layout.spread(blocks_kept(magnitude(weight, layout), weight.shape, layout), weight.shape)
    for start in range(0, channels, 4):
        part, kept = np.abs(weight[..., start : start + 4]), mask[..., start : start + 4]
        assert (kept.sum(-1) == min(2, part.shape[-1])).all()
        assert (np.where(kept, part, np.inf).min(-1) >= np.where(kept, 0.0, part).max(-1)).all()


def test_equal_blocks_stay_in_order() -> None:
    layout = layout_of("2x2:50")
    weight = np.ones((4, 4), np.float32)
    assert blocks_kept(magnitude(weight, layout), (4, 4), layout).tolist() == [[True, True], [False, False]]
