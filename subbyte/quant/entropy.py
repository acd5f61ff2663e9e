"""How many bits codes of weights take when frequent ones are stored in fewer.

Codes of a coarse grid crowd around zero. An entropy coder stores a code of probability p in -log2 p bits;
here each output channel takes its probabilities from one of a few tables that the whole network shares.
Symbols are codes in the order of the numbers that they stand for: `symbols`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Frequencies of a table add up to 2**PRECISION.
PRECISION = 12
TOTAL = 1 << PRECISION
SYMBOLS = 256
#: Tables of a network, at most, and codes for each of them, at least.
MOST_TABLES, LEAST_CODES = 32, 16384
#: How often channels are given to tables and tables are made of their channels.
ROUNDS = 6
#: Parts of a bit that costs are counted in meanwhile.
FINE = 1024.0


@dataclass(frozen=True, eq=False)
class Tables:
    """frequencies: int64 [K, 256], each row adding up to TOTAL. of: uint8 [C], the row of each channel.
    bits: what all codes take up."""

    frequencies: np.ndarray
    of: np.ndarray
    bits: float


def symbols(codes: np.ndarray, bits: int) -> np.ndarray:
    """uint8 codes of two's complement as 0 .. 2**bits - 1 in the order of their numbers, uint8; the same
    function is its own inverse."""
    return codes ^ np.uint8(1 << (bits - 1))


def histogram(codes: np.ndarray, bits: int) -> np.ndarray:
    """How often each symbol occurs in each output channel of codes, uint8 [O, ...]: int64 [O, 256]."""
    flat = symbols(codes.reshape(len(codes), -1), bits)
    places = flat + SYMBOLS * np.arange(len(flat))[:, None]
    return np.bincount(places.reshape(-1), minlength=SYMBOLS * len(flat)).reshape(len(flat), SYMBOLS)


def fitted(counts: np.ndarray) -> Tables:
    """Tables for channels with these counts, int64 [C, 256], and the one of least bits for each channel.

    First channels of similar entropy share one; then, in turns, tables become the mean of their channels, and
    channels take the table that suits them (the k-means of divergences: Banerjee et al., JMLR 6, 2005).
    """
    number = int(np.clip(counts.sum() // LEAST_CODES, 1, MOST_TABLES))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    entropy = -(shares * np.log2(np.where(shares > 0.0, shares, 1.0))).sum(1)
    order = np.argsort(np.round(entropy, 6), kind="stable")
    of = np.empty(len(counts), np.int64)
    of[order] = np.arange(len(counts)) * number // len(counts)
    known = counts.astype(np.float64)
    for _ in range(ROUNDS):
        sums = _sums(counts, of, number)
        # a symbol that no channel of a table has is not impossible while tables are being found; whole
        # numbers, whose products and sums are exact: the same tables on every machine
        cost = np.rint(-FINE * np.log2((sums + 1e-3) / (sums.sum(1, keepdims=True) + 1e-3 * SYMBOLS)))
        of = (known @ cost.T).argmin(1)
    used, of = np.unique(of, return_inverse=True)
    together = _sums(counts, of, len(used))
    frequencies = np.stack([_normalized(row) for row in together])
    cost = np.where(frequencies > 0, PRECISION - np.log2(np.maximum(frequencies, 1)), 0.0)
    return Tables(frequencies, of.astype(np.uint8), float((together * cost).sum()))


def _sums(counts: np.ndarray, of: np.ndarray, number: int) -> np.ndarray:
    return np.stack([counts[of == table].sum(0) for table in range(number)])


def _normalized(counts: np.ndarray) -> np.ndarray:
    """Whole frequencies that add up to TOTAL, none 0 where a symbol occurs; int64 [256]."""
    exact = counts * (TOTAL / counts.sum())
    whole = np.where(counts > 0, np.maximum(np.floor(exact), 1.0), 0.0).astype(np.int64)
    while (missing := TOTAL - int(whole.sum())) != 0:
        # what costs least, or saves most: one more, or one less, of a symbol
        step = 1 if missing > 0 else -1
        able = (counts > 0) & (whole + step > 0)
        change = np.where(able, counts * np.log2(np.maximum(whole + step, 1) / np.maximum(whole, 1)), -np.inf)
        chosen = np.argsort(-change, kind="stable")[: min(abs(missing), max(1, int(able.sum()) // 4))]
        whole[chosen] += step
    return whole
