"""The parameters of a whole graph, joined by dtype: one long tensor of each."""

from __future__ import annotations

import math

import numpy as np

from subbyte.artifact.container import CODES, DTYPES
from subbyte.errors import ArtifactError


class Writer:
    """Joins arrays by dtype, in the order they come."""

    def __init__(self) -> None:
        self._parts: dict[str, list[np.ndarray]] = {}

    def append(self, array: np.ndarray) -> str:
        """Adds an array of any shape, in C order; returns the dtype's name."""
        code = CODES[array.dtype]
        self._parts.setdefault(code, []).append(array.reshape(-1))
        return code

    def tensors(self) -> dict[str, np.ndarray]:
        """One vector of each dtype that was used, by its name."""
        return {code: np.concatenate(parts) for code, parts in sorted(self._parts.items())}


class Reader:
    """Cuts arrays from the vectors that a Writer made, in the same order."""

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        self._left = dict(tensors)

    def take(self, code: str, shape: tuple[int, ...]) -> np.ndarray:
        """The next array, a view. ArtifactError if too few elements are left."""
        count = math.prod(shape)
        left = self._left.get(code, np.empty(0, DTYPES[code]))
        if count > left.size:
            raise ArtifactError(f"it has fewer {code} numbers than its graph needs")
        self._left[code] = left[count:]
        return left[:count].reshape(shape)
