"""Packing of 2-, 3-, 4- and 8-bit codes into bytes: the canonical order of docs/spec/artifact.md.

At a width of 2, 4 or 8, code i of the flattened (C-order) tensor occupies bits i*bits .. i*bits+bits-1
of the byte stream, least significant bit first; the last byte is padded with zero bits. 3-bit codes are
two such planes: the low two bits of every code, then the high bit of every code, one bit wide.
"""

from __future__ import annotations

import math

import numpy as np

from subbyte.errors import ArtifactError

_UNCLEAN = "packed weights end in bits that are not zero; the file is corrupt"


def planes(bits: int) -> tuple[int, ...]:
    """Widths of the planes that codes of `bits` bits are stored in, the lowest bits first."""
    return (2, 1) if bits == 3 else (bits,)


def packed_size(count: int, bits: int) -> int:
    """Bytes that `count` codes of `bits` bits occupy."""
    return sum(plane_size(count, width) for width in planes(bits))


def plane_size(count: int, width: int) -> int:
    """Bytes of a plane of `count` numbers of `width` bits."""
    return (count * width + 7) // 8


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """uint8 codes of any shape to a uint8 vector [packed_size(codes.size, bits)]."""
    flat, parts, low = codes.reshape(-1), [], 0
    for width in planes(bits):
        parts.append(pack_plane((flat >> low) & ((1 << width) - 1), width))
        low += width
    return np.concatenate(parts)


def pack_plane(codes: np.ndarray, width: int) -> np.ndarray:
    """uint8 numbers [n] below 2**width to a plane, uint8 [plane_size(n, width)]: number i in its bits
    i*width .. i*width + width - 1, least significant first, padded with zero bits."""
    if 8 % width:
        bits = (codes[:, None] >> np.arange(width, dtype=np.uint8)) & 1
        return np.packbits(bits, bitorder="little")
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
        codes |= unpack_plane(packed[begin:end], count, width) << low
        low, begin = low + width, end
    return codes.reshape(shape)


def unpack_plane(packed: np.ndarray, count: int, width: int) -> np.ndarray:
    """The inverse of `pack_plane`, uint8 [count]. ArtifactError if the padding bits are not zero."""
    if 8 % width:
        bits = np.unpackbits(packed, bitorder="little")
        if bits[count * width :].any():
            raise ArtifactError(_UNCLEAN)
        places = np.arange(width, dtype=np.uint8)
        return np.bitwise_or.reduce(bits[: count * width].reshape(count, width) << places, axis=1)
    shifts = np.arange(0, 8, width, dtype=np.uint8)
    codes_of = (np.arange(256, dtype=np.uint8)[:, None] >> shifts) & ((1 << width) - 1)
    flat = codes_of.view(f"u{len(shifts)}")[packed].view(np.uint8).reshape(-1)  # a number is a byte's codes
    if flat[count:].any():
        raise ArtifactError(_UNCLEAN)
    return flat[:count]
