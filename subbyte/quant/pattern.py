"""Which codes of a tensor of weights are stored: all of them, or those of a sparsity pattern."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from subbyte.quant.packing import pack, packed_size, unpack

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Pattern:
    """Which codes of a tensor are stored, and how. The name tells patterns apart.

    size: bytes of a shape at a width; pack: uint8 codes [O, ...] and their width to uint8 [size]; unpack:
    the inverse, of bytes, shape and width, ArtifactError for bytes that `pack` never makes; mask: bool, which
    of real weights [O, ...] stay, all others being zero (None: every one stays); holds: whether weights that
    are zero but for these, bool [O, ...], follow the pattern. Codes that are not stored are 0.
    """

    name: str
    size: Callable[[Shape, int], int] = field(compare=False, repr=False)
    pack: Callable[[np.ndarray, int], np.ndarray] = field(compare=False, repr=False)
    unpack: Callable[[np.ndarray, Shape, int], np.ndarray] = field(compare=False, repr=False)
    mask: Callable[[np.ndarray], np.ndarray] | None = field(default=None, compare=False, repr=False)
    holds: Callable[[np.ndarray], bool] = field(default=lambda nonzero: True, compare=False, repr=False)


DENSE = Pattern("dense", lambda shape, bits: packed_size(math.prod(shape), bits), pack, unpack)
