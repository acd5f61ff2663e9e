"""The grid of a quantized activation: one scale and zero point per tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from subbyte.errors import GraphError
from subbyte.quant.format import ACTIVATION_FORMATS, Format


@dataclass(frozen=True)
class QParams:
    """Affine grid of an activation tensor: real = scale * (code - zero_point).

    `scale` is a positive, finite float32 (held as the Python float of equal value), `zero_point`
    a code, `bits` the width. Codes are unsigned, 0 .. 2**bits - 1, stored one per byte.

    Raises:
        GraphError: a field is out of range.
    """

    scale: float
    zero_point: int
    bits: int = 8

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

    @property
    def format(self) -> Format:
        """Of the codes."""
        return ACTIVATION_FORMATS[f"uint{self.bits}"]

    @property
    def qmax(self) -> int:
        """The largest code; the smallest is 0."""
        return (1 << self.bits) - 1

    @property
    def low(self) -> float:
        """The real number of code 0."""
        return -self.zero_point * self.scale

    @property
    def high(self) -> float:
        """The real number of the largest code."""
        return (self.qmax - self.zero_point) * self.scale

    def quantize(self, x: np.ndarray) -> np.ndarray:
        """Real numbers to codes, uint8, same shape: see docs/spec/numerics.md, "quantize"."""
        inverse = np.float32(1.0) / np.float32(self.scale)
        with np.errstate(over="ignore"):  # infinity is clamped like any large number
            scaled = np.asarray(x, np.float32) * inverse
        bounded = np.clip(scaled, np.float32(-self.zero_point), np.float32(self.qmax - self.zero_point))
        return (np.rint(bounded).astype(np.int32) + self.zero_point).astype(np.uint8)

    def dequantize(self, codes: np.ndarray) -> np.ndarray:
        """Codes to real numbers, float32, same shape."""
        centred = codes.astype(np.int32) - self.zero_point
        return centred.astype(np.float32) * np.float32(self.scale)


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
