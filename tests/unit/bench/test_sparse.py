"""bench/sparse.py: which blocks become zero, and what its tables say. Nothing is said of how fast."""

from __future__ import annotations

import random

import numpy as np
import pytest

from bench.sparse import (
    layer_table,
    measure,
    narrowed,
    network_table,
    pays_from,
    peer_table,
    placed,
    prunable,
    with_zeros,
)
from subbyte.benchmark.peer import Peer
from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.quant import QTensor
from tests.fuzz.builder import Builder


def small(codebook: bool = False) -> Graph:
    """Five convolutions, of which the second and the fourth may be pruned: the third is depthwise."""
    b = Builder(random.Random(1), (10, 12, 3))
    x = b.qconv(b.quantize("image"), 24, (3, 3), act="silu")
    x = b.qconv(x, 72, act="silu", bits=4 if codebook else 8, codebook=codebook)
    x = b.qconv(x, 72, (3, 3), groups=72, act="silu")
    x = b.qconv(x, 40, act="silu")
    return b.finish(b.qconv(x, 16, act="silu"))


@pytest.mark.parametrize("codebook", [False, True])
def test_the_asked_share_of_blocks_is_zero(codebook: bool) -> None:
    graph = small(codebook)
    sparse = with_zeros(graph, 62.5, (4, 16))
    chosen = {node.name for node in prunable(graph)}
    assert len(chosen) == 2
    for before, after in zip(graph.nodes, sparse.nodes, strict=True):
        if before.name not in chosen:
            assert before is after
            continue
        weight = after.params["weight"]
        assert isinstance(weight, QTensor)
        o, _, _, i = weight.shape
        values = np.zeros((-(-o // 16) * 16, i), np.int8)
        values[:o] = weight.values()[:, 0, 0]
        kept = np.abs(values.reshape(-1, 16, i // 4, 4).astype(int)).sum(axis=(1, 3)) > 0
        assert kept.sum() == -(-kept.size * 375 // 1000)


def test_zero_per_cent_is_the_same_graph() -> None:
    graph = small()
    assert with_zeros(graph, 0, (4, 16)).nodes == graph.nodes


@pytest.mark.parametrize("percent", [-1.0, 101.0])
def test_impossible_shares_are_refused(percent: float) -> None:
    with pytest.raises(InputError, match="0 to 100 per cent"):
        with_zeros(small(), percent, (4, 16))


def test_tables_have_a_row_each() -> None:
    graph = small()
    peer = Peer("other", "int8", "1", 0, lambda x: (x,), lambda folder: folder, True)
    results, times = measure(graph, [0.0, 75.0], (4, 16), 2, "portable", [peer])
    assert [c.zeros for c in results] == [0.0, 75.0]
    (row,) = peer_table(results, times)[2:]
    assert row.startswith("| other-int8 | ")
    assert row.count("|") == 7
    network = network_table(results, 100.0)
    assert [line.split("|")[1].strip() for line in network[2:]] == ["0", "75"]
    assert network[2].split("|")[-2].strip() == "0"
    assert network[3].split("|")[-2].strip() == "2"
    layers = layer_table(graph, results, 100.0)
    assert len(layers) == 4
    assert all(", 4x" in line for line in layers[2:])
    with pytest.raises(InputError, match="at least 1"):
        measure(graph, [0.0], (4, 16), 0, None)


def test_narrow_weights_have_the_same_zeros() -> None:
    sparse = with_zeros(small(), 50, (4, 16))
    narrow = narrowed(sparse, 4)
    for node in prunable(sparse):
        before, after = (graph.node(node.name).params["weight"] for graph in (sparse, narrow))
        assert isinstance(before, QTensor)
        assert isinstance(after, QTensor)
        assert after.bits == 4
        np.testing.assert_array_equal(np.sign(before.values()), np.sign(after.values()))
    results, _ = measure(small(), [0.0, 50.0], (4, 16), 1, "portable", narrow=4)
    assert [c.name for c in results] == ["0", "50", "0, int4", "50, int4"]


def test_where_sparsity_pays() -> None:
    assert pays_from([0, 25, 50, 75], [1.0, 1.0, 0.7, 0.4]) == "50 %"
    assert pays_from([0, 25, 50, 75], [1.0, 0.9, 1.0, 0.4]) == "75 %"
    assert pays_from([0, 25], [1.0, 1.1]) == "none"


def test_pages_have_marks() -> None:
    page = "a\n<!-- w8a8 -->\nold\n<!-- /w8a8 -->\nb\n"
    assert placed(page, "w8a8", ["new", ""]) == "a\n<!-- w8a8 -->\nnew\n\n<!-- /w8a8 -->\nb\n"
    with pytest.raises(InputError, match="the page has no <!-- w4a8 -->"):
        placed(page, "w4a8", [])
