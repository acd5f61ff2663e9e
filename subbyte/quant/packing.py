"""Packing of 2-, 4- and 8-bit codes into bytes: the canonical order of docs/spec/artifact.md.

Code i of the flattened (C-order) tensor occupies bits i*bits .. i*bits+bits-1 of the byte
stream, least significant bit first; the last byte is padded with zero bits.
"""

from __future__ import annotations

import math

import numpy as np

from subbyte.errors import ArtifactError


def packed_size(count: int, bits: int) -> int:
    """Bytes that `count` codes of `bits` bits occupy."""
    return (count * bits + 7) // 8


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """uint8 codes of any shape to a uint8 vector [packed_size(codes.size, bits)]."""
    flat = codes.reshape(-1)
    if bits == 8:
        return flat.copy()
    per_byte = 8 // bits
    padded = np.zeros(packed_size(flat.size, bits) * per_byte, np.uint8)
    padded[: flat.size] = flat
    shifts = np.arange(per_byte, dtype=np.uint8) * bits
    lanes = padded.reshape(-1, per_byte) << shifts
    return np.bitwise_or.reduce(lanes, axis=1).astype(np.uint8)


def unpack(packed: np.ndarray, shape: tuple[int, ...], bits: int) -> np.ndarray:
    """The inverse of `pack`: uint8 codes of `shape`.

    Raises ArtifactError if the byte count does not match or the padding bits are not zero.
    """
    count = math.prod(shape)
    if packed.dtype != np.uint8 or packed.shape != (packed_size(count, bits),):
        raise ArtifactError(f"packed weights have {packed.size} bytes, {packed_size(count, bits)} needed")
    if bits == 8:
        return packed.reshape(shape)
    per_byte = 8 // bits
    shifts = np.arange(per_byte, dtype=np.uint8) * bits
    flat = ((packed[:, None] >> shifts) & ((1 << bits) - 1)).reshape(-1)
    if flat[count:].any():
        raise ArtifactError("packed weights end in bits that are not zero; the file is corrupt")
    return flat[:count].reshape(shape)
