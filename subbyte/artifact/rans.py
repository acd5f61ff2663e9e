"""Codes of weights in as many bits as they are rare: docs/spec/artifact.md, "Entropy coding", in code.

Asymmetric numeral systems (Duda, arXiv 1311.2540) over ranges of frequencies, with words of 16 bits and many
states side by side, so that numpy works on all of them at once.
"""

from __future__ import annotations

import numpy as np

from subbyte.errors import ArtifactError
from subbyte.quant.entropy import PRECISION, SYMBOLS, TOTAL

#: A state is at least this, and below 2**32.
LOWEST = 1 << 16
#: States side by side, at most, and codes for each of them, at least.
MOST_LANES, LEAST_CODES = 1024, 8192
#: Codes of any stream, and of each of its bytes, at most: what a small file can make a reader do.
FREE_CODES, MOST_CODES_PER_BYTE = 1 << 16, 64


def lanes(count: int) -> int:
    """How many states `count` codes are divided among."""
    return min(max(count // LEAST_CODES, 1), MOST_LANES)


def encoded(symbols: np.ndarray, tables: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """The stream of symbols, uint8 [n], as uint8.

    tables: uint8 [n], the row of frequencies of each. frequencies: int64 [K, 256], each row adding up to
    TOTAL, positive for every symbol that occurs. ArtifactError for a stream so short that no reader takes it.
    """
    count, wide = len(symbols), lanes(len(symbols))
    starts = _starts(frequencies)
    state = np.full(wide, LOWEST, np.uint64)
    words: list[np.ndarray] = []
    for begin in reversed(range(0, count, wide)):
        end = min(begin + wide, count)
        row, symbol = tables[begin:end], symbols[begin:end]
        frequency = frequencies[row, symbol].astype(np.uint64)
        x = state[: end - begin]
        full = x >= frequency << np.uint64(32 - PRECISION)
        words.append((x[full] & np.uint64(0xFFFF)).astype("<u2"))
        x = np.where(full, x >> np.uint64(16), x)
        quotient, rest = np.divmod(x, frequency)
        state[: end - begin] = (
            (quotient << np.uint64(PRECISION)) + rest + starts[row, symbol].astype(np.uint64)
        )
    pieces = [state.astype("<u4").view(np.uint8), *(part.view(np.uint8) for part in reversed(words))]
    stream = np.concatenate(pieces)
    if count > most_codes(stream):
        raise ArtifactError(f'its {count} weights are nearly all the same; use coding = "fixed"')
    return stream


def most_codes(stream: np.ndarray) -> int:
    """How many codes a reader takes from a stream."""
    return FREE_CODES + MOST_CODES_PER_BYTE * len(stream)


def decoded(stream: np.ndarray, tables: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """The inverse of `encoded`: uint8 [n], n as long as `tables`. ArtifactError for what it does not make."""
    count, wide = len(tables), lanes(len(tables))
    if len(stream) < 4 * wide or len(stream) % 2 or count > most_codes(stream):
        raise ArtifactError("its coded weights are truncated")
    found = _by_slot(frequencies)
    state = stream[: 4 * wide].view("<u4").copy()
    words = stream[4 * wide :].view("<u2").astype(np.uint32)
    result, place = np.empty(count, np.uint8), 0
    for begin in range(0, count, wide):
        row = tables[begin : begin + wide].astype(np.uint32) << np.uint32(PRECISION)
        x = state[: len(row)]
        entry = found[row | x & np.uint32(TOTAL - 1)]
        result[begin : begin + wide] = entry  # its lowest byte
        x = ((entry >> np.uint32(8) & np.uint32(TOTAL - 1)) + np.uint32(1)) * (x >> np.uint32(PRECISION))
        x += entry >> np.uint32(8 + PRECISION)
        (low,) = np.nonzero(x < LOWEST)
        if place + len(low) > len(words):
            raise ArtifactError("its coded weights are truncated")
        x[low] = x[low] << np.uint32(16) | words[place : place + len(low)]
        state[: len(row)] = x
        place += len(low)
    if place != len(words) or (state != LOWEST).any():
        raise ArtifactError("its coded weights are damaged")
    return result


def _starts(frequencies: np.ndarray) -> np.ndarray:
    starts: np.ndarray = frequencies.cumsum(1) - frequencies
    return starts


def _by_slot(frequencies: np.ndarray) -> np.ndarray:
    """What the low bits of a state say, uint32 [K * TOTAL]: the symbol in 8 bits, its frequency less 1 in
    PRECISION bits, and how far behind the symbol's first slot they are."""
    symbol = np.concatenate([np.repeat(np.arange(SYMBOLS), row) for row in frequencies])
    row = np.repeat(np.arange(len(frequencies)), TOTAL)
    slot = np.tile(np.arange(TOTAL), len(frequencies))
    behind = slot - _starts(frequencies)[row, symbol]
    entry = symbol | (frequencies[row, symbol] - 1) << 8 | behind << (8 + PRECISION)
    found: np.ndarray = entry.astype(np.uint32)
    return found
