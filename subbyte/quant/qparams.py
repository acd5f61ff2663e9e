"""The grid of a quantized activation: one scale and zero point per tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from subbyte.errors import GraphError
from subbyte.quant.format import ACTIVATION_FORMATS, Format


@dataclass(frozen=True)
class QParams:
    """Affine grid of an activation tensor: real = scale * (code - zero_point).

    `scale` is a positive, finite float32 (held as the Python float of equal value), `zero_point`
    a code, `bits` the width. Codes are unsigned, 0 .. 2**bits - 1, stored one per byte.

    levels: the codes that occur, where these are not all up to 2**bits - 1: 2**bits different bytes in
    ascending order, the zero point among them, of a grid of 8 bits. `bits` is what such a byte tells.
    Only tables make them (docs/spec/numerics.md); who reads them reads bytes.

    Raises:
        GraphError: a field is out of range.
    """

    scale: float
    zero_point: int
    bits: int = 8
    levels: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if type(self.bits) is not int or f"uint{self.bits}" not in ACTIVATION_FORMATS:
            known = ", ".join(str(format.bits) for format in ACTIVATION_FORMATS.values())
            raise GraphError(f"activation bits must be one of {known}, got {self.bits!r:.80}")
        if not isinstance(self.scale, float) or type(self.zero_point) is not int:
            raise GraphError(
                f"a grid needs a float scale and an int zero point, got {self.scale!r:.80} and "
                f"{self.zero_point!r:.80}"
            )
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise GraphError(f"activation scale must be positive and finite, got {self.scale}")
        with np.errstate(over="ignore"):
            representable = float(np.float32(self.scale)) == self.scale
        if not representable or self.scale < float(np.finfo(np.float32).tiny):
            raise GraphError(f"activation scale {self.scale!r} is not a normal float32 number")
        if not 0 <= self.zero_point <= self.qmax:
            raise GraphError(f"zero point {self.zero_point} is outside 0..{self.qmax}")
        if self.levels is not None:
            self._check_levels(self.levels)

    def _check_levels(self, levels: object) -> None:
        if self.bits == 8:
            raise GraphError("an activation of 8 bits makes every byte; it has no levels")
        if not isinstance(levels, tuple) or any(type(v) is not int or not 0 <= v <= 255 for v in levels):
            raise GraphError(f"levels must be a tuple of ints in 0..255, got {levels!r:.80}")
        if len(levels) != 1 << self.bits or any(a >= b for a, b in pairwise(levels)):
            raise GraphError(f"levels must be {1 << self.bits} in ascending order, got {levels!r:.80}")
        if self.zero_point not in levels:
            raise GraphError(f"the zero point {self.zero_point} must be one of the levels")

    @property
    def format(self) -> Format:
        """Of the codes."""
        return replace(ACTIVATION_FORMATS[f"uint{self.bits}"], book=self.levels is not None)

    @property
    def qmax(self) -> int:
        """The largest code that fits; the smallest is 0. 255 where there are levels, which are bytes."""
        return (1 << self.bits) - 1 if self.levels is None else 255

    @property
    def low(self) -> float:
        """The real number of the smallest code."""
        return ((0 if self.levels is None else self.levels[0]) - self.zero_point) * self.scale

    @property
    def high(self) -> float:
        """The real number of the largest code."""
        return ((self.qmax if self.levels is None else self.levels[-1]) - self.zero_point) * self.scale

    def quantize(self, x: np.ndarray) -> np.ndarray:
        """Real numbers to codes, uint8, same shape: see docs/spec/numerics.md, "quantize".

        Levels do not matter: an 8-bit code of the grid, which for the real number of a level is that level.
        """
        inverse = np.float32(1.0) / np.float32(self.scale)
        with np.errstate(over="ignore"):  # infinity is clamped like any large number
            scaled = np.asarray(x, np.float32) * inverse
        bounded = np.clip(scaled, np.float32(-self.zero_point), np.float32(self.qmax - self.zero_point))
        return (np.rint(bounded).astype(np.int32) + self.zero_point).astype(np.uint8)

    def dequantize(self, codes: np.ndarray) -> np.ndarray:
        """Codes to real numbers, float32, same shape."""
        centred = codes.astype(np.int32) - self.zero_point
        return centred.astype(np.float32) * np.float32(self.scale)


def nearest_levels(v: np.ndarray, levels: Sequence[int]) -> np.ndarray:
    """uint8, same shape: the nearest of `levels`, ascending codes, to real-valued codes v, float64.

    Half way between two, the lower one.
    """
    book = np.asarray(levels, np.float64)
    middles = (book[1:] + book[:-1]) / 2
    return book[np.searchsorted(middles, v, side="left")].astype(np.uint8)


def qparams_from_range(low: float, high: float, bits: int = 8) -> QParams:
    """The grid that covers [min(low, 0), max(high, 0)], with zero exactly on a code.

    Degenerate ranges (all zero) give scale 1. Raises GraphError if a bound is not finite.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        raise GraphError(f"range [{low}, {high}] is not finite")
    low, high = min(low, 0.0), max(high, 0.0)
    qmax = (1 << bits) - 1
    scale = float(np.float32((high - low) / qmax))
    if scale < 1e-30:
        return QParams(1.0, 0, bits)
    zero_point = int(np.clip(np.rint(-low / scale), 0, qmax))
    return QParams(scale, zero_point, bits)
