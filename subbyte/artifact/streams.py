"""The parameters of a whole graph, joined by dtype: one long tensor of each."""

from __future__ import annotations

import math

import numpy as np

from subbyte.artifact.container import CODES, DTYPES
from subbyte.errors import ArtifactError
from subbyte.quant import QTensor


class Writer:
    """Joins arrays by dtype, in the order they come.

    coded: whether codes of dense weights are kept apart, `dense`, for an entropy coder.
    """

    def __init__(self, *, coded: bool = False) -> None:
        self.coded = coded
        self.dense: list[QTensor] = []
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
    """Cuts arrays from the vectors that a Writer made, in the same order.

    codes: those of all dense weights, uint8 [n], where they were coded; None: they are packed.
    """

    def __init__(self, tensors: dict[str, np.ndarray], codes: np.ndarray | None = None) -> None:
        self._left = dict(tensors)
        self._codes = codes

    @property
    def coded(self) -> bool:
        """Whether codes of dense weights are taken by `take_codes`."""
        return self._codes is not None

    def take(self, code: str, shape: tuple[int, ...]) -> np.ndarray:
        """The next array, a view. ArtifactError if too few elements are left."""
        left = self._left.get(code, np.empty(0, DTYPES[code]))
        taken, self._left[code] = _cut(code, left, shape)
        return taken

    def take_codes(self, shape: tuple[int, ...]) -> np.ndarray:
        """The next codes of a dense weight, a view. ArtifactError if too few are left."""
        assert self._codes is not None
        taken, self._codes = _cut("coded", self._codes, shape)
        return taken


def _cut(name: str, left: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    count = math.prod(shape)
    if count > left.size:
        raise ArtifactError(f"it has fewer {name} numbers than its graph needs")
    return left[:count].reshape(shape), left[count:]
