"""Tables of frequencies: whole, complete, and as short as entropy allows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subbyte.quant.entropy import LEAST_CODES, MOST_TABLES, TOTAL, fitted, histogram, symbols

SEED = 5


def entropy(counts: np.ndarray) -> float:
    """Bits of all symbols, each channel with probabilities of its own."""
    shares = counts / counts.sum(1, keepdims=True)
    return float(-(counts * np.log2(np.where(counts > 0, shares, 1.0))).sum())


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_symbols_are_in_the_order_of_numbers(bits: int) -> None:
    numbers = np.arange(-(1 << (bits - 1)), 1 << (bits - 1))
    codes = (numbers & ((1 << bits) - 1)).astype(np.uint8)
    assert symbols(codes, bits).tolist() == list(range(1 << bits))
    np.testing.assert_array_equal(symbols(symbols(codes, bits), bits), codes)


def test_histogram_counts_each_channel() -> None:
    codes = np.array([[[0, 255], [255, 1]], [[128, 0], [0, 0]]], np.uint8)  # 0 -1 -1 1, -128 0 0 0
    counts = histogram(codes, 8)
    assert counts.shape == (2, 256)
    assert {s: int(counts[0, s]) for s in counts[0].nonzero()[0]} == {127: 2, 128: 1, 129: 1}
    assert {s: int(counts[1, s]) for s in counts[1].nonzero()[0]} == {0: 1, 128: 3}


@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(1, 400))
def test_tables_hold_what_occurs(seed: int, channels: int, each: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.rint(rng.normal(size=(channels, each)) * rng.uniform(0.0, 60.0, (channels, 1)))
    counts = histogram(np.clip(values, -128, 127).astype(np.int8).view(np.uint8), 8)
    tables = fitted(counts)
    assert len(tables.frequencies) == int(tables.of.max()) + 1
    assert len(tables.frequencies) <= min(MOST_TABLES, max(1, channels * each // LEAST_CODES))
    assert (tables.frequencies.sum(1) == TOTAL).all()
    assert (tables.frequencies >= 0).all()
    assert (tables.frequencies[tables.of][counts > 0] > 0).all()
    cost = -np.log2(np.maximum(tables.frequencies, 1)[tables.of] / TOTAL)
    assert tables.bits == pytest.approx(float((counts * cost).sum()))
    assert tables.bits >= entropy(counts) - 1e-6


def test_different_channels_get_different_tables() -> None:
    """Narrow and wide channels: two tables are hardly longer than each channel's own entropy."""
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    spread = np.where(np.arange(200) % 2, 0.7, 20.0)[:, None]
    values = np.clip(np.rint(rng.normal(size=(200, 400)) * spread), -127, 127).astype(np.int8)
    counts = histogram(values.view(np.uint8), 8)
    tables = fitted(counts)
    assert len(set(tables.of[::2]) & set(tables.of[1::2])) == 0
    one = fitted(counts.sum(0, keepdims=True)).bits
    assert tables.bits < 0.95 * one


def test_one_symbol_takes_nothing() -> None:
    tables = fitted(histogram(np.zeros((3, 5), np.uint8), 8))
    assert tables.bits == 0.0
    assert tables.frequencies.max() == TOTAL
