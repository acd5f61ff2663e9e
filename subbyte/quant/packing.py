"""Packing of 2-, 3-, 4- and 8-bit codes into bytes: the canonical order of docs/spec/artifact.md.

At a width of 2, 4 or 8, code i of the flattened (C-order) tensor occupies bits i*bits .. i*bits+bits-1
of the byte stream, least significant bit first; the last byte is padded with zero bits. 3-bit codes are
two such planes: the low two bits of every code, then the high bit of every code, one bit wide.
"""

from __future__ import annotations

import math

import numpy as np

from subbyte.errors import ArtifactError


def planes(bits: int) -> tuple[int, ...]:
    """Widths of the planes that codes of `bits` bits are stored in, the lowest bits first."""
    return (2, 1) if bits == 3 else (bits,)


def packed_size(count: int, bits: int) -> int:
    """Bytes that `count` codes of `bits` bits occupy."""
    return sum((count * width + 7) // 8 for width in planes(bits))


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """uint8 codes of any shape to a uint8 vector [packed_size(codes.size, bits)]."""
    flat, parts, low = codes.reshape(-1), [], 0
    for width in planes(bits):
        parts.append(_pack_plane((flat >> low) & ((1 << width) - 1), width))
        low += width
    return np.concatenate(parts)


def _pack_plane(codes: np.ndarray, width: int) -> np.ndarray:
    per_byte = 8 // width
    padded = np.zeros(-(-codes.size // per_byte) * per_byte, np.uint8)
    padded[: codes.size] = codes
    packed = padded[::per_byte].copy()
    for lane in range(1, per_byte):
        packed |= padded[lane::per_byte] << (lane * width)
    return packed


def unpack(packed: np.ndarray, shape: tuple[int, ...], bits: int) -> np.ndarray:
    """The inverse of `pack`: uint8 codes of `shape`.

    Raises ArtifactError if the byte count does not match or the padding bits are not zero.
    """
    count = math.prod(shape)
    if packed.dtype != np.uint8 or packed.shape != (packed_size(count, bits),):
        raise ArtifactError(f"packed weights have {packed.size} bytes, {packed_size(count, bits)} needed")
    if bits == 8:
        return packed.reshape(shape)
    codes, low, begin = np.zeros(count, np.uint8), 0, 0
    for width in planes(bits):
        end = begin + packed_size(count, width)
        codes |= _unpack_plane(packed[begin:end], count, width) << low
        low, begin = low + width, end
    return codes.reshape(shape)


def _unpack_plane(packed: np.ndarray, count: int, width: int) -> np.ndarray:
    shifts = np.arange(0, 8, width, dtype=np.uint8)
    codes_of = (np.arange(256, dtype=np.uint8)[:, None] >> shifts) & ((1 << width) - 1)
    flat = codes_of.view(f"u{len(shifts)}")[packed].view(np.uint8).reshape(-1)  # a number is a byte's codes
    if flat[count:].any():
        raise ArtifactError("packed weights end in bits that are not zero; the file is corrupt")
    return flat[:count]
