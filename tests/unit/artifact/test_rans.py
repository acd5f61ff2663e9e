"""The entropy coder: what goes in comes out, in as many bits as tables say, and damage is noticed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subbyte.artifact.rans import FREE_CODES, LEAST_CODES, MOST_LANES, decoded, encoded, lanes
from subbyte.errors import ArtifactError
from subbyte.quant.entropy import Tables, fitted, histogram, symbols

SEED = 3


def coded(seed: int, channels: int, each: int, spread: float = 5.0) -> tuple[np.ndarray, np.ndarray, Tables]:
    """Symbols, the table of each, and the tables."""
    rng = np.random.default_rng(seed)
    values = np.rint(rng.normal(size=(channels, each)) * rng.uniform(0.0, spread, (channels, 1)))
    codes = np.clip(values, -128, 127).astype(np.int8).view(np.uint8)
    tables = fitted(histogram(codes, 8))
    return symbols(codes, 8).reshape(-1), np.repeat(tables.of, each), tables


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 700), st.floats(0.0, 90.0))
def test_round_trip(seed: int, channels: int, each: int, spread: float) -> None:
    flat, rows, tables = coded(seed, channels, each, spread)
    stream = encoded(flat, rows, tables.frequencies)
    # a state of at least 2**16 grows by at most 1 + 2**-4 more than its symbol's share asks for
    most = tables.bits + len(flat) * np.log2(1.0 + 2.0**-4) + 48 * lanes(len(flat))
    assert 8 * len(stream) <= most
    np.testing.assert_array_equal(decoded(stream, rows, tables.frequencies), flat)


def test_many_lanes() -> None:
    assert [lanes(n) for n in (1, LEAST_CODES, 5 * LEAST_CODES + 1, 1 << 28)] == [1, 1, 5, MOST_LANES]
    print(f"seed {SEED}")
    flat, rows, tables = coded(SEED, 300, 301)
    assert lanes(len(flat)) > 1
    assert len(flat) % lanes(len(flat))  # the last round is not full
    np.testing.assert_array_equal(
        decoded(encoded(flat, rows, tables.frequencies), rows, tables.frequencies), flat
    )


def test_damage_is_noticed_or_harmless() -> None:
    """A stream that is longer, shorter or other is refused, but for bits that only say another symbol of a
    state that comes back to the start, which chance does not hit."""
    print(f"seed {SEED}")
    flat, rows, tables = coded(SEED, 30, 100)
    stream = encoded(flat, rows, tables.frequencies)
    rng = np.random.default_rng(SEED)
    wrong = [stream[:-2], stream[:-1], stream[:2], np.append(stream, stream[:2]), stream[:0]]
    for place in rng.integers(0, len(stream), 200):
        changed = stream.copy()
        changed[place] ^= np.uint8(1 << rng.integers(0, 8))
        wrong.append(changed)
    for data in wrong:
        with pytest.raises(ArtifactError, match=r"coded weights are (truncated|damaged)"):
            decoded(data, rows, tables.frequencies)


def test_a_small_stream_does_not_make_many_codes() -> None:
    flat, rows, tables = coded(SEED, 2, 400, spread=0.0)
    assert len(encoded(flat, rows, tables.frequencies)) == 4
    flat, rows, tables = coded(SEED, 2, FREE_CODES, spread=0.0)
    with pytest.raises(ArtifactError, match="nearly all the same"):
        encoded(flat, rows, tables.frequencies)
    stream = np.tile(np.array([0, 0, 1, 0], np.uint8), lanes(len(flat)))
    with pytest.raises(ArtifactError, match="truncated"):
        decoded(stream, rows, tables.frequencies)
