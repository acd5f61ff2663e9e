"""The sparsity patterns of docs/spec/artifact.md, by the rules that their names follow.

"N:M" keeps, of every M consecutive input channels of one output and one tap, N; 2:4 is what sparse tensor
cores and NPUs execute (Mishra et al., "Accelerating Sparse Deep Neural Networks", arXiv 2104.08378).
"RxC:P" keeps, of all blocks of R consecutive input channels and C consecutive output channels of one tap,
P per cent, rounded up, wherever they lie. Groups and blocks at the end of the channels are smaller ones.

A weight is [O, ..., I]. What a pattern keeps is a fixed number of codes, so that a shape gives the size;
where fewer are not zero, the first zeros are kept too.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator

import numpy as np

from subbyte.errors import ArtifactError
from subbyte.quant.packing import pack, pack_plane, packed_size, plane_size, unpack, unpack_plane
from subbyte.quant.pattern import DENSE, Pattern, Shape

#: The longest group of N:M, and the most channels of a block on either side.
MAX_GROUP, MAX_BLOCK = 64, 256
#: Numbers that are worked on at a time, so that memory follows what is stored and not what is claimed.
SLAB = 1 << 20


def n_of_m(name: str) -> Pattern | None:
    """The pattern called "N:M", 1 <= N < M <= MAX_GROUP; None for other names."""
    found = re.fullmatch(r"([1-9][0-9]?):([1-9][0-9]?)", name)
    if found is None or not int(found[1]) < int(found[2]) <= MAX_GROUP:
        return None
    return _n_of_m(int(found[1]), int(found[2]))


def blocks(name: str) -> Pattern | None:
    """The pattern called "RxC:P", R and C in 1 .. MAX_BLOCK, P in 1 .. 100; None for other names."""
    found = re.fullmatch(r"([1-9][0-9]{0,2})x([1-9][0-9]{0,2}):([1-9][0-9]?|100)", name)
    if found is None or max(int(found[1]), int(found[2])) > MAX_BLOCK:
        return None
    return _blocks(int(found[1]), int(found[2]), int(found[3]))


#: Every kind of pattern: gives the one of a name, or None.
PATTERNS: list[Callable[[str], Pattern | None]] = [n_of_m, blocks]
#: Their names, for people.
NAMES = "N:M like 2:4, blocks RxC:PERCENT like 4x16:50"


def find_pattern(name: str) -> Pattern | None:
    """The pattern of that name; None if there is none."""
    if name == DENSE.name:
        return DENSE
    return next((pattern for rule in PATTERNS if (pattern := rule(name)) is not None), None)


def fuller(pattern: Pattern, percent: int) -> Pattern:
    """The pattern of the same groups or blocks that keeps at least `percent` of them, 1 .. 100, and all that
    `pattern` does."""
    if ":" not in pattern.name:
        return pattern
    block, _, last = pattern.name.partition(":")
    if "x" in block:
        return find_pattern(f"{block}:{max(percent, int(last))}") or pattern
    kept = max(int(block), -(-int(last) * percent // 100))
    return DENSE if kept == int(last) else find_pattern(f"{kept}:{last}") or pattern


# N:M. A row is what one output reads at one tap; codes of a group are stored in the order of their channels.


@functools.cache
def _n_of_m(n: int, m: int) -> Pattern:
    wide = (m - 1).bit_length()  # of a place within a group

    def size(shape: Shape, bits: int) -> int:
        count = math.prod(shape[:-1]) * sum(kept for _, _, kept in _parts(shape[-1], n, m))
        return packed_size(count, bits) + plane_size(count, wide)

    def packed(codes: np.ndarray, bits: int) -> np.ndarray:
        rows = codes.reshape(-1, codes.shape[-1])
        values, places = [], []
        for begin, length, kept in _parts(codes.shape[-1], n, m):
            groups = rows[:, begin : begin + length].reshape(-1, min(m, length))
            place = _first(groups != 0, min(n, groups.shape[1]))
            values.append(np.take_along_axis(groups, place, axis=1).reshape(-1, kept))
            places.append(place.astype(np.uint8).reshape(-1, kept))
        where = pack_plane(np.concatenate(places, axis=1).reshape(-1), wide)
        return np.concatenate([pack(np.concatenate(values, axis=1), bits), where])

    def unpacked(stored: np.ndarray, shape: Shape, bits: int) -> np.ndarray:
        _check_size(stored, size(shape, bits))
        parts = _parts(shape[-1], n, m)
        each = sum(kept for _, _, kept in parts)
        count = math.prod(shape[:-1]) * each
        split = packed_size(count, bits)
        values = unpack(stored[:split], (count // each, each), bits)
        places = unpack_plane(stored[split:], count, wide).reshape(values.shape)
        rows, at = np.zeros((len(values), shape[-1]), np.uint8), 0
        for begin, length, kept in parts:
            where = slice(at, at + kept)
            groups = _scattered(values[:, where], places[:, where], min(m, length), min(n, length))
            rows[:, begin : begin + length] = groups.reshape(len(rows), length)
            at += kept
        return rows.reshape(shape)

    def mask(weight: np.ndarray) -> np.ndarray:
        """The largest of every group; of equal ones the first."""
        rows = np.abs(weight).reshape(-1, weight.shape[-1])
        kept = np.zeros(rows.shape, bool)
        for begin, length, _ in _parts(weight.shape[-1], n, m):
            groups = rows[:, begin : begin + length].reshape(-1, min(m, length))
            place = np.argsort(-groups, axis=1, kind="stable")[:, :n]
            largest = np.zeros(groups.shape, bool)
            np.put_along_axis(largest, place, True, axis=1)
            kept[:, begin : begin + length] = largest.reshape(len(rows), length)
        return kept.reshape(weight.shape)

    def holds(nonzero: np.ndarray) -> bool:
        counts = np.add.reduceat(nonzero, range(0, nonzero.shape[-1], m), axis=-1, dtype=np.uint8)
        return bool((counts <= n).all())

    return Pattern(f"{n}:{m}", size, packed, unpacked, mask, holds)


def _parts(channels: int, n: int, m: int) -> list[tuple[int, int, int]]:
    """Of a row, the whole groups and what is left: first channel, channels, codes that are kept of them."""
    whole, rest = channels // m * m, channels % m
    parts = [(0, whole, whole // m * n), (whole, rest, min(n, rest))]
    return [part for part in parts if part[1]]


def _first(nonzero: np.ndarray, n: int) -> np.ndarray:
    """int64 [G, n], ascending: the places that are not zero, then the first that are, of bool [G, M]."""
    return np.sort(np.argsort(~nonzero, axis=1, kind="stable")[:, :n], axis=1)


def _scattered(values: np.ndarray, places: np.ndarray, m: int, n: int) -> np.ndarray:
    """uint8 [G, m] with each group's values, n of them, at their places. ArtifactError for places that
    `_first` does not give."""
    values, places = values.reshape(-1, n), places.reshape(-1, n)
    groups, order = np.zeros((len(values), m), np.uint8), np.arange(n, dtype=np.uint8)
    for begin in range(0, len(values), SLAB):
        value, place = values[begin : begin + SLAB], places[begin : begin + SLAB]
        # a zero is kept only if all before it are
        wrong = (place[:, 1:] <= place[:, :-1]).any() or ((value == 0) & (place != order)).any()
        if wrong or int(place.max()) >= m:
            raise ArtifactError("packed weights do not lie as their pattern says; the file is corrupt")
        np.put_along_axis(groups[begin : begin + SLAB], place.astype(np.int64), value, axis=1)
    return groups


# Blocks. Their order is that of weights: by output channels, then taps, then input channels.


@functools.cache
def _blocks(r: int, c: int, percent: int) -> Pattern:
    def counts(shape: Shape) -> tuple[int, int, tuple[int, int]]:
        """All blocks, those that are kept, and the outputs and inputs of a stored one."""
        every = -(-shape[0] // c) * math.prod(shape[1:-1]) * -(-shape[-1] // r)
        return every, -(-every * percent // 100), (min(c, shape[0]), min(r, shape[-1]))

    def size(shape: Shape, bits: int) -> int:
        every, kept, block = counts(shape)
        return packed_size(kept * math.prod(block), bits) + plane_size(every, 1)

    def packed(codes: np.ndarray, bits: int) -> np.ndarray:
        every, kept, block = counts(codes.shape)
        nonzero = _by_blocks(np.logical_or, codes != 0, r, c).reshape(-1)
        stay = np.zeros(every, np.uint8)
        stay[_first(nonzero[None], kept)] = 1
        values = np.zeros((kept, *block), np.uint8)
        for begin, place, inside in _places(np.flatnonzero(stay), codes.shape, r, c):
            part = np.zeros(inside.shape, np.uint8)
            part[inside] = codes.reshape(-1)[place[inside]]
            values[begin : begin + len(part)] = part
        return np.concatenate([pack(values, bits), pack_plane(stay, 1)])

    def unpacked(stored: np.ndarray, shape: Shape, bits: int) -> np.ndarray:
        _check_size(stored, size(shape, bits))
        every, kept, block = counts(shape)
        split = packed_size(kept * math.prod(block), bits)
        values = unpack(stored[:split], (kept, *block), bits)
        where = np.flatnonzero(unpack_plane(stored[split:], every, 1))
        wrong = len(where) != kept
        if not wrong:  # a block of zeros is kept only if all before it are
            wrong = bool((~values.any(axis=(1, 2)) & (where != np.arange(kept))).any())
        codes = np.zeros(math.prod(shape), np.uint8)
        for begin, place, inside in () if wrong else _places(where, shape, r, c):
            part = values[begin : begin + len(inside)]
            wrong = wrong or bool(part[~inside].any())
            codes[place[inside]] = part[inside]
        if wrong:
            raise ArtifactError("packed weights do not lie as their pattern says; the file is corrupt")
        return codes.reshape(shape)

    def mask(weight: np.ndarray) -> np.ndarray:
        """The blocks with the largest sums of squares; of equal ones the first."""
        every, kept, _ = counts(weight.shape)
        power = _by_blocks(np.add, np.square(weight, dtype=np.float64), r, c)
        stay = np.zeros(every, bool)
        stay[np.argsort(-power.reshape(-1), kind="stable")[:kept]] = True
        wide = np.repeat(np.repeat(stay.reshape(power.shape), c, axis=0), r, axis=2)
        return wide[: weight.shape[0], :, : weight.shape[-1]].reshape(weight.shape)

    def holds(nonzero: np.ndarray) -> bool:
        return int(_by_blocks(np.logical_or, nonzero, r, c).sum()) <= counts(nonzero.shape)[1]

    return Pattern(f"{r}x{c}:{percent}", size, packed, unpacked, mask, holds)


def _by_blocks(join: np.ufunc, weight: np.ndarray, r: int, c: int) -> np.ndarray:
    """[blocks of outputs, taps, blocks of inputs] of [O, ..., I]."""
    taps = weight.reshape(len(weight), -1, weight.shape[-1])
    rows = join.reduceat(taps, range(0, taps.shape[0], c), axis=0)
    found: np.ndarray = join.reduceat(rows, range(0, taps.shape[2], r), axis=2)
    return found


def _places(where: np.ndarray, shape: Shape, r: int, c: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For blocks by number, some at a time: the first's place in `where`; where in the flattened weights
    their codes lie, int64, and whether these are there at all, bool, both [blocks, outputs, inputs]."""
    outputs, inputs = shape[0], shape[-1]
    taps, across = math.prod(shape[1:-1]), -(-inputs // r)
    high, wide = min(c, outputs), min(r, inputs)
    step = max(1, SLAB // (high * wide))
    for begin in range(0, len(where), step):
        number = where[begin : begin + step]
        output = (number // (taps * across) * c)[:, None] + np.arange(high)
        channel = (number % across * r)[:, None] + np.arange(wide)
        tap = number // across % taps
        place = ((output * taps + tap[:, None]) * inputs)[:, :, None] + channel[:, None]
        yield begin, place, (output < outputs)[:, :, None] & (channel < inputs)[:, None]


def _check_size(stored: np.ndarray, size: int) -> None:
    if stored.dtype != np.uint8 or stored.shape != (size,):
        raise ArtifactError(f"packed weights have {stored.size} bytes, {size} needed")
