"""Quantized weights: signed codes with one scale per output channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from subbyte.errors import GraphError
from subbyte.quant.format import WEIGHT_FORMATS, Format, uniform_levels
from subbyte.quant.pattern import DENSE


@dataclass(frozen=True, eq=False)
class QTensor:
    """A weight tensor on an integer grid: real[o] = scale[o] * levels[codes[o]].

    codes: uint8, any shape with output channels first, each below 2**bits.
    scale: float32 [O], positive and finite.
    format: how the codes are stored; one `of_weights`, with its code book if `levels` are one.
    levels: int8 [2**bits], the code book; plain two's complement unless learned.
    Raises:
        GraphError: dtype, shape or range of a field is wrong, or weights do not follow the pattern.
    """

    codes: np.ndarray
    scale: np.ndarray
    format: Format
    levels: np.ndarray

    def __post_init__(self) -> None:
        if type(self.format) is not Format or not self.format.of_weights:
            known = ", ".join(WEIGHT_FORMATS)
            raise GraphError(f"the format of weights must be one of {known}, got {self.format!s:.80}")
        if not all(isinstance(array, np.ndarray) for array in (self.codes, self.scale, self.levels)):
            raise GraphError("weight codes, scale and code book must be numpy arrays")
        if self.codes.dtype != np.uint8 or self.codes.ndim < 2:
            raise GraphError("weight codes must be a uint8 array with output channels first")
        if self.levels.dtype != np.int8 or self.levels.shape != (1 << self.bits,):
            raise GraphError(f"code book must be int8 [{1 << self.bits}]")
        if self.format.with_book(self.levels) != self.format:
            raise GraphError(f"the levels of weights contradict their format {self.format}")
        if self.scale.dtype != np.float32 or self.scale.shape != (self.codes.shape[0],):
            raise GraphError(f"weight scale must be float32 [{self.codes.shape[0]}]")
        if not (np.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise GraphError("weight scales must be positive and finite")
        if self.bits < 8 and self.codes.size and int(self.codes.max()) >= 1 << self.bits:
            raise GraphError(f"a weight code does not fit in {self.bits} bits")
        if self.format.pattern != DENSE and not self.format.pattern.holds(self.codes != 0):
            raise GraphError(f"weights do not follow the pattern of {self.format}")

    @property
    def bits(self) -> int:
        """Of a code."""
        return self.format.bits

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its codes."""
        return self.codes.shape

    def values(self) -> np.ndarray:
        """The integers that the kernels multiply by: int8, shape of `codes`."""
        return self.levels[self.codes]

    def dequantize(self) -> np.ndarray:
        """Real weights, float32, shape of `codes`."""
        scale = self.scale.reshape(-1, *([1] * (self.codes.ndim - 1)))
        return self.values().astype(np.float32) * scale

    @classmethod
    def from_values(cls, values: np.ndarray, scale: np.ndarray, format: Format) -> QTensor:
        """Integers in -2**(bits-1) .. 2**(bits-1)-1 on the plain grid. GraphError if outside."""
        half = 1 << (format.bits - 1)
        if values.size and (int(values.min()) < -half or int(values.max()) >= half):
            raise GraphError(f"weight values do not fit in {format.bits} bits")
        codes = (values.astype(np.int16) & ((1 << format.bits) - 1)).astype(np.uint8)
        return cls(codes, np.ascontiguousarray(scale, np.float32), format, uniform_levels(format.bits))


def quantize_weight(weight: np.ndarray, scale: np.ndarray, format: Format) -> QTensor:
    """Round-to-nearest (half to even) quantization with a given scale per output channel.

    weight: float32 [O, ...], which follows the format's pattern; scale: float32 [O]. Codes are clamped to the
    symmetric range -(2**(bits-1)-1) .. 2**(bits-1)-1 at 8 bits and to the full two's complement range below.
    """
    half = 1 << (format.bits - 1)
    low = -half + 1 if format.bits == 8 else -half
    scaled = weight / scale.reshape(-1, *([1] * (weight.ndim - 1)))
    return QTensor.from_values(np.clip(np.rint(scaled), low, half - 1).astype(np.int16), scale, format)
