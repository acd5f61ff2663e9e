"""What goes and what the others become, beside least squares worked out by brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from subbyte.ir import Node
from subbyte.prune.layout import Layout, blocks_kept, layout_of, magnitude
from subbyte.prune.second_order import Quadratic, compensated, trace
from subbyte.prune.statistics import FLAT, Statistics

#: Sums of float32 products against float64: 2**-24 per rounding, and a thousand of them.
CLOSE = 1e-4


def drawn(shape: tuple[int, ...], seed: int = 0, act: str = "none") -> Node:
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    params = {
        "weight": rng.normal(size=shape).astype(np.float32),
        "bias": rng.normal(size=shape[0]).astype(np.float32),
    }
    if len(shape) == 2:
        return Node("layer", "linear", ("x",), "y", {"act": act}, params)
    pad = shape[1] // 2
    attrs = {"act": act, "stride": (1, 1), "pad": (pad,) * 4, "groups": 1}
    return Node("layer", "conv2d", ("x",), "y", attrs, params)


def array(node: Node, role: str = "weight") -> np.ndarray:
    return np.asarray(node.params[role])


def inputs(rows: int, channels: int, seed: int = 1) -> np.ndarray:
    """Correlated, as maps are: float32 [rows, channels]."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(rows, channels)) @ rng.normal(size=(channels, channels))
    return (mixed + rng.normal(size=channels)).astype(np.float32)


def seen(node: Node, x: np.ndarray, layout: Layout, y: np.ndarray | None = None) -> Statistics:
    """Of a linear layer that reads x; what it should make is y, or what it makes."""
    weight, bias = array(node), array(node, "bias")
    wanted = x @ weight.T + bias if y is None else y
    found = Statistics(node, layout, weighted=False)
    tensor = torch.from_numpy(np.ascontiguousarray(wanted, np.float32))
    found.add(torch.from_numpy(x), tensor, torch.ones_like(tensor), len(x), torch.Generator())
    return found


def least(
    x: np.ndarray, y: np.ndarray, node: Node, kept: np.ndarray, damping: float
) -> tuple[np.ndarray, float]:
    """Weights, biases last, of least damped squared error of which only those `kept`, bool [O, I], are not
    zero, float64 [O, I + 1], and that error."""
    weight = np.float64(array(node))
    rows = np.c_[np.float64(x), np.ones(len(x))]
    damp = np.sqrt(damping * (rows[:, :-1] ** 2).sum(0).mean())
    pull = damp * np.eye(x.shape[1], x.shape[1] + 1)
    result, error = np.zeros((len(weight), x.shape[1] + 1)), 0.0
    for o in range(len(weight)):
        columns = np.flatnonzero(np.append(kept[o], True))
        matrix = np.concatenate([rows, pull])
        target = np.concatenate([np.float64(y[:, o]), damp * weight[o]])
        found, *_ = np.linalg.lstsq(matrix[:, columns], target, rcond=None)
        result[o, columns] = found
        error += ((matrix @ result[o] - target) ** 2).sum()
    return result, error


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "2x2:40", "4x3:50"])
@pytest.mark.parametrize("own", [True, False])
def test_what_stays_is_the_least_squares_solution(pattern: str, own: bool) -> None:
    """Channel counts that the blocks do not divide; another target than what the layer makes."""
    layout, node, x = layout_of(pattern), drawn((7, 10)), inputs(60, 10)
    y = x @ array(node).T + array(node, "bias")
    other = y if own else (y + np.tanh(x[:, :7])).astype(np.float32)
    quadratic = seen(node, x, layout, other).quadratic(0.01, None, own=own)
    kept = blocks_kept(magnitude(array(node), layout), (7, 10), layout)
    made = seen(node, x, layout).node_of(compensated(quadratic, kept, layout))
    mask = layout.spread(kept, (7, 10))
    expected, _ = least(x, other, node, mask, 0.01)
    np.testing.assert_allclose(array(made), expected[:, :-1], atol=CLOSE * np.abs(expected).max())
    np.testing.assert_allclose(array(made, "bias"), expected[:, -1], atol=CLOSE * np.abs(expected).max())
    assert not array(made)[~mask].any()


def test_the_first_block_to_go_is_the_one_that_costs_least() -> None:
    """Every choice by brute force: of each panel that block goes first, for what it really costs."""
    layout, node, x = layout_of("2x2:50"), drawn((4, 6)), inputs(40, 6)
    y = x @ array(node).T + array(node, "bias")
    quadratic = seen(node, x, layout).quadratic(0.01, None, own=True)
    cost = trace(quadratic, layout, 3)
    _, none = least(x, y, node, np.ones((4, 6), bool), 0.01)
    for panel in range(2):
        found = []
        for block in range(3):
            mask = np.ones((2, 3), bool)
            mask[panel, block] = False
            found.append(least(x, y, node, layout.spread(mask, (4, 6)), 0.01)[1] - none)
        assert np.argmin(cost[panel]) == np.argmin(found)
        np.testing.assert_allclose(cost[panel].min(), min(found), rtol=CLOSE)


def test_costs_of_blocks_one_after_the_other_add_up() -> None:
    """The last of a panel's blocks goes when all others have gone: the sum is what emptying it costs, where
    none costs less than the one before it."""
    layout, node, x = Layout(3, 4, share=layout_of("1x1:50").share), drawn((4, 9)), inputs(50, 9)
    y = x @ array(node).T + array(node, "bias")
    quadratic = seen(node, x, layout).quadratic(0.01, None, own=True)
    _, none = least(x, y, node, np.ones((4, 9), bool), 0.01)
    order = np.argsort(trace(quadratic, layout, 3)[0])
    mask, level = np.ones((1, 3), bool), 0.0
    for block in order:
        before = least(x, y, node, layout.spread(mask, (4, 9)), 0.01)[1]
        mask[0, block] = False
        cost = least(x, y, node, layout.spread(mask, (4, 9)), 0.01)[1] - before
        level = max(level, cost)
        np.testing.assert_allclose(trace(quadratic, layout, 3)[0, block], level, rtol=CLOSE)
    assert before > none


def test_the_best_pair_of_four_by_brute_force() -> None:
    """With independent inputs what a weight costs does not depend on the others, so that greedy is best."""
    rng = np.random.default_rng(3)
    x = np.float32(np.linalg.qr(rng.normal(size=(64, 9)))[0][:, :8] * rng.uniform(1, 5, 8))
    x -= x.mean(0, keepdims=True)
    layout, node = layout_of("2:4"), drawn((3, 8), 4)
    y = x @ array(node).T + array(node, "bias")
    quadratic = seen(node, x, layout).quadratic(1e-6, None, own=True)
    kept = blocks_kept(trace(quadratic, layout, 4), (3, 8), layout)
    for o, group in itertools.product(range(3), range(2)):
        errors = {}
        for pair in itertools.combinations(range(4), 2):
            mask = np.ones((3, 8), bool)
            mask[o, group * 4 : group * 4 + 4] = False
            mask[o, [group * 4 + i for i in pair]] = True
            errors[pair] = least(x, y, node, mask, 1e-6)[1]
        best = min(errors, key=errors.__getitem__)
        assert np.flatnonzero(kept[o, group * 4 : group * 4 + 4]).tolist() == list(best)


@pytest.mark.parametrize("pattern", ["2:4", "3:8", "4x4:50", "2x3:30"])
@pytest.mark.parametrize("rounds", [1, 4, 100])
def test_compensation_never_adds_error(pattern: str, rounds: int) -> None:
    layout, node, x = layout_of(pattern), drawn((10, 14), 5), inputs(80, 14)
    found = seen(node, x, layout)
    quadratic = found.quadratic(0.01, None, own=True)
    weight = array(node)
    kept = blocks_kept(trace(quadratic, layout, rounds), weight.shape, layout)
    plain = np.where(layout.spread(kept, weight.shape), weight, np.float32(0.0))
    gathered = torch.from_numpy(layout.gathered(np.float64(plain)))
    bias = np.zeros((layout.panels(weight.shape), layout.outputs))
    bias.reshape(-1)[:10] = array(node, "bias")
    start = torch.cat([gathered, torch.from_numpy(bias)[:, :, None]], 2)
    less = quadratic.rise(compensated(quadratic, kept, layout))
    assert 0.0 < less < quadratic.rise(start)


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "5:8"])
def test_groups_keep_exactly_so_many(pattern: str) -> None:
    layout, node, x = layout_of(pattern), drawn((5, 22), 6), inputs(60, 22)
    quadratic = seen(node, x, layout).quadratic(0.01, None, own=True)
    cost = trace(quadratic, layout, 7)
    kept = blocks_kept(cost, (5, 22), layout)
    assert (kept == np.isinf(cost)).all()
    mask = layout.spread(kept, (5, 22))
    for start in range(0, 22, layout.group):
        part = mask[:, start : start + layout.group]
        assert (part.sum(1) == min(layout.most, part.shape[1])).all()


def test_what_counts_more_keeps_more() -> None:
    layout, node, x = layout_of("2x2:50"), drawn((4, 8), 7), inputs(40, 8)
    found = seen(node, x, layout)
    counts = np.array([1.0, 1.0, 1e6, 1e6])
    quadratic: Quadratic = found.quadratic(0.01, counts, own=True)
    kept = blocks_kept(trace(quadratic, layout, 4), (4, 8), layout)
    assert kept[1].all()
    assert not kept[0].any()


@pytest.mark.parametrize("act", ["silu", "none"])
def test_a_convolution_is_the_linear_layer_of_its_windows(act: str) -> None:
    """Rows are in the order of the weights, each weighted by f' where that is asked."""
    node, rng = drawn((5, 3, 3, 6), 8, act), np.random.default_rng(9)
    x = torch.from_numpy(rng.normal(size=(2, 6, 4, 5)).astype(np.float32))
    y, slopes = (torch.from_numpy(rng.normal(size=(2, 5, 4, 5)).astype(np.float32)) for _ in range(2))
    layout = layout_of("4x2:50")
    found = Statistics(node, layout, weighted=True)
    found.add(x, y, slopes, 10**6, torch.Generator())
    padded = np.pad(x.permute(0, 2, 3, 1).double().numpy(), ((0, 0), (1, 1), (1, 1), (0, 2)))
    rows = [padded[n, i : i + 3, j : j + 3].reshape(-1) for n in range(2) for i in range(4) for j in range(5)]
    matrix = np.c_[np.array(rows), np.ones(40)]
    wanted = y.permute(0, 2, 3, 1).reshape(40, 5).double().numpy()
    mean = slopes.permute(0, 2, 3, 1).reshape(40, 5).double().square().mean(1).numpy()
    weight = np.ones(40) if act == "none" else mean + FLAT  # 16 outputs share a Hessian, here all 5
    np.testing.assert_allclose(found.hessian[0], matrix.T @ (weight[:, None] * matrix), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found.right[:5], (wanted * weight[:, None]).T @ matrix, rtol=1e-5, atol=1e-4)


def test_a_part_of_the_positions_is_drawn_by_the_seed() -> None:
    node, x = drawn((4, 6)), inputs(50, 6)
    y = torch.zeros(50, 4)

    def hessian(seed: int) -> torch.Tensor:
        found = Statistics(node, layout_of("2x2:50"), weighted=False)
        found.add(torch.from_numpy(x), y, y, 20, torch.Generator().manual_seed(seed))
        assert found.rows == 20
        return found.hessian

    assert torch.equal(hessian(1), hessian(1))
    assert not torch.equal(hessian(1), hessian(2))


@pytest.mark.parametrize("pattern", ["2:4", "4x4:25"])
def test_rescaled_outputs_have_the_wanted_means_and_variances(pattern: str) -> None:
    layout, node, x = layout_of(pattern), drawn((6, 12), 10), inputs(90, 12)
    y = x @ array(node).T + array(node, "bias")
    found = seen(node, x, layout)
    quadratic = found.quadratic(0.01, None, own=True)
    kept = blocks_kept(magnitude(array(node), layout), (6, 12), layout)
    plain = found.node_of(compensated(quadratic, kept, layout))
    made = found.node_of(found.rescaled(compensated(quadratic, kept, layout)))
    out, less = (x @ array(n).T + array(n, "bias") for n in (made, plain))
    alive = layout.spread(kept, (6, 12)).any(1)
    assert alive.any()
    np.testing.assert_allclose(out.mean(0), y.mean(0), atol=1e-3 * np.abs(y).max())
    np.testing.assert_allclose(out.std(0)[alive], y.std(0)[alive], rtol=1e-3)
    assert (less.std(0)[alive] < y.std(0)[alive]).all()


def test_inputs_that_are_never_there_do_no_harm() -> None:
    """A layer that reads zeros only keeps its biases, and as many weights as the pattern says."""
    layout, node = layout_of("2x2:50"), drawn((4, 6))
    found = seen(node, np.zeros((20, 6), np.float32), layout)
    quadratic = found.quadratic(0.01, None, own=True)
    kept = blocks_kept(trace(quadratic, layout, 5), (4, 6), layout)
    made = found.node_of(compensated(quadratic, kept, layout))
    assert kept.sum() == 3
    np.testing.assert_allclose(array(made, "bias"), array(node, "bias"), rtol=1e-5)
