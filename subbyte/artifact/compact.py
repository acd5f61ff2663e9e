"""A file whose weights are entropy coded: docs/spec/artifact.md, "Compact files", in code.

Codes of dense weights become one stream (rans.py); all other numbers are compressed by bzip2, the first bytes
of all numbers of a dtype in front of the second ones, as those of a kind resemble each other.
"""

from __future__ import annotations

import bz2
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from subbyte.artifact.container import DTYPES, ORDER
from subbyte.artifact.rans import decoded, encoded
from subbyte.errors import ArtifactError
from subbyte.ir import Graph
from subbyte.quant import QTensor
from subbyte.quant.entropy import SYMBOLS, TOTAL, fitted, histogram, symbols
from subbyte.quant.pattern import DENSE

CODED, REST = "coded", "rest"
#: Of what is not coded, uncompressed.
MAX_REST = 64 << 20


def compacted(
    dense: Sequence[QTensor], tensors: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The two tensors of a compact file, and what its graph says of them.

    dense: the weights whose codes are coded, at least one. tensors: all other numbers, by dtype.
    ArtifactError if these are more than a reader accepts.
    """
    if (beside := sum(array.nbytes for array in tensors.values())) > MAX_REST:
        raise ArtifactError(
            f"it has {beside} bytes beside coded weights, at most {MAX_REST} are supported; "
            'use coding = "fixed"'
        )
    tables = fitted(np.concatenate([histogram(weight.codes, weight.bits) for weight in dense]))
    flat = np.concatenate([symbols(weight.codes, weight.bits).reshape(-1) for weight in dense])
    each = np.concatenate([np.full(len(w.codes), w.codes[0].size) for w in dense])
    stream = encoded(flat, np.repeat(tables.of, each), tables.frequencies)
    said = {
        "tables": [_trimmed(row) for row in tables.frequencies],
        "rest": [len(tensors.get(code, ())) for code in ORDER],
    }
    return {CODED: stream, REST: _shrunk(tensors, tables.of)}, said


def coded_bits(graph: Graph) -> float | None:
    """The mean bits that codes of dense weights take up in a compact file, None if there are none."""
    weights = [w for node in graph.nodes if isinstance(w := node.params.get("weight"), QTensor)]
    counts = [histogram(w.codes, w.bits) for w in weights if w.format.pattern == DENSE]
    return fitted(np.concatenate(counts)).bits / sum(int(c.sum()) for c in counts) if counts else None


def expanded(
    rows: Sequence[Sequence[int]],
    shapes: Sequence[tuple[int, int, int]],
    sizes: Mapping[str, int],
    stream: np.ndarray,
    rest: np.ndarray,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The inverse of `compacted`: all other numbers by dtype, and all codes, uint8 [n].

    rows: tables as they stand in a graph. shapes: of each dense weight its output channels, the codes of
    each, and their bits. sizes: how many numbers there are of a dtype. ArtifactError for what is damaged.
    """
    if not shapes:
        raise ArtifactError("it has tables of frequencies, but no weight whose codes are coded")
    frequencies = np.stack([_table(row) for row in rows])
    tensors, of = _grown(rest, sizes, sum(channels for channels, _, _ in shapes))
    if len(of) and int(of.max()) >= len(frequencies):
        raise ArtifactError("its coded weights name a table that it has not")
    each = np.repeat([count for _, count, _ in shapes], [channels for channels, _, _ in shapes])
    found = decoded(stream, np.repeat(of, each), frequencies)
    begin = 0
    for channels, count, bits in shapes:
        part = found[begin : begin + channels * count]
        if bits < 8 and int(part.max()) >= 1 << bits:
            raise ArtifactError(f"a coded weight does not fit in {bits} bits")
        part ^= np.uint8(1 << (bits - 1))
        begin += channels * count
    return tensors, found


def _trimmed(row: np.ndarray) -> list[int]:
    """The first symbol that occurs, and the frequencies from it to the last one."""
    places = np.flatnonzero(row)
    return [int(places[0]), *map(int, row[places[0] : places[-1] + 1])]


def _table(row: Sequence[int]) -> np.ndarray:
    """The inverse of `_trimmed`, int64 [256]."""
    first, *found = row
    table = np.zeros(SYMBOLS, np.int64)
    if not found or first < 0 or first + len(found) > SYMBOLS or min(found) < 0 or max(found) > TOTAL:
        raise ArtifactError("it has a table of frequencies that no writer makes")
    table[first : first + len(found)] = found
    if table.sum() != TOTAL or not found[0] or not found[-1]:
        raise ArtifactError("it has a table of frequencies that no writer makes")
    return table


def _shrunk(tensors: Mapping[str, np.ndarray], of: np.ndarray) -> np.ndarray:
    pieces = [_planes(tensors[code]) for code in ORDER if code in tensors]
    return np.frombuffer(bz2.compress(b"".join(piece.tobytes() for piece in (*pieces, of))), np.uint8)


def _planes(array: np.ndarray) -> np.ndarray:
    """The bytes of numbers: uint8 [bytes of a number, n]."""
    raw: np.ndarray[Any, np.dtype[np.uint8]] = np.ascontiguousarray(array).view(np.uint8)
    planes: np.ndarray = raw.reshape(len(array), array.itemsize).T
    return planes


def _grown(
    rest: np.ndarray, sizes: Mapping[str, int], channels: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The inverse of `_shrunk`."""
    wanted = sum(DTYPES[code].itemsize * count for code, count in sizes.items()) + channels
    if wanted > MAX_REST:
        raise ArtifactError(f"it has {wanted} bytes beside coded weights; at most {MAX_REST} are supported")
    engine = bz2.BZ2Decompressor()
    try:
        raw = engine.decompress(rest.tobytes(), max_length=wanted + 1)
    except (OSError, EOFError):
        raise ArtifactError("its numbers cannot be decompressed") from None
    if len(raw) != wanted or not engine.eof or engine.unused_data:
        raise ArtifactError("its numbers are truncated, or more than its graph needs")
    tensors, begin = {}, 0
    for code in ORDER:
        if code in sizes:
            width, count = DTYPES[code].itemsize, sizes[code]
            planes = np.frombuffer(raw, np.uint8, width * count, begin).reshape(width, count)
            tensors[code] = planes.T.copy().view(DTYPES[code]).reshape(-1)
            begin += width * count
    return tensors, np.frombuffer(raw, np.uint8, channels, begin)
