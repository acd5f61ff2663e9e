"""Depth-first regions: rows in rings instead of whole tensors, with the reference's integers."""

from __future__ import annotations

import random

import pytest

from subbyte.ir import Graph
from subbyte.runtime import Session
from tests.contract.agreement import assert_engine_equals, images
from tests.fuzz.builder import Builder


def random_chain(seed: int) -> Graph:
    """Ten to sixteen row-wise layers on a map of many bands, then pooled (which ends a region)."""
    rng = random.Random(seed)
    b = Builder(rng, (rng.randrange(33, 70), rng.randrange(20, 50), 3))
    x = b.quantize("image")
    for _ in range(rng.randrange(8, 14)):
        height, width, channels = b.shape(x)
        stride = rng.choice((1, 1, 1, 2)) if min(height, width) > 12 else 1
        kind = rng.randrange(5)
        if kind == 0:
            size = rng.choice((3, 5))
            x = b.qconv(x, channels, (size, size), stride, groups=channels, act=rng.choice(("silu", "relu6")))
        elif kind == 1:
            x = b.qconv(x, rng.randrange(4, 70), (3, 3), stride, act=rng.choice(("silu", "none")), bits=4)
        elif kind == 2:
            pad = (rng.randrange(2), rng.randrange(2), rng.randrange(2), rng.randrange(2))
            x = b.qconv(x, rng.randrange(4, 40), (2, 3), stride, pad=pad)
        elif kind == 3:
            hidden = b.qconv(x, rng.randrange(4, 60), (3, 3), act="relu")
            x = b.qconv(hidden, channels, residual=x, bits=2)
        else:
            x = b.add("add", [x, b.qconv(x, channels, (3, 3), act="silu")], b.grid())
    return b.finish(b.add("global_avg_pool", [x], b.grid()))


@pytest.mark.parametrize("seed", range(16))
def test_regions_equal_the_reference(seed: int) -> None:
    graph = random_chain(seed)
    assert_engine_equals(graph, images(graph, 2, seed))


def test_rings_hold_fewer_rows_and_take_less_memory() -> None:
    b = Builder(random.Random(1), (96, 96, 3))
    x = b.qconv(b.quantize("image"), 16, (3, 3), 2)
    for _ in range(3):
        x = b.qconv(b.qconv(x, 64, (3, 3), act="silu"), 16, residual=x)
    graph = b.finish(b.qconv(b.qconv(x, 64, (3, 3), 2), 16))
    whole, rows = Session(graph, depth_first_above=None), Session(graph, depth_first_above=16 * 1024)
    kept = [r for r in rows.plan() if r["ring_rows"]]
    assert len(kept) == 9  # all but the last
    assert all(r["region"] == 0 and r["ring_rows"] <= 13 < r["shape"][0] for r in kept)
    assert all(r["region"] == -1 and r["ring_rows"] == 0 for r in whole.plan())
    assert rows.arena_bytes < whole.arena_bytes / 2
    assert [r["name"] for r in rows.plan()] == [r["name"] for r in whole.plan()]


def test_profile_has_a_time_for_every_step_of_a_region() -> None:
    graph = random_chain(3)
    session = Session(graph, depth_first_above=0, threads=2)
    seconds = session.profile(images(graph, 1, 0), repeats=2)
    assert len(seconds) == len(session.plan())
    assert all(t > 0 for t in seconds)
