"""The one check of what every executor is given to run on."""

from __future__ import annotations

import numpy as np

from subbyte.errors import InputError
from subbyte.ir import Graph


def checked(graph: Graph, x: np.ndarray) -> np.ndarray:
    """x, float32 [N, H, W, C] (or [N, C]) as the graph's input asks for; N may be 0.

    Raises InputError if x is no numpy array, has another shape or dtype, or holds NaN or infinity.
    """
    expected = graph.value(graph.input).shape
    if not isinstance(x, np.ndarray) or x.dtype != np.float32:
        kind = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
        raise InputError(
            f"input must be a float32 numpy array, got {kind}; convert it with .astype('float32')"
        )
    if x.shape[1:] != expected or x.ndim == 0:
        raise InputError(
            f"input must be float32 [N, {', '.join(map(str, expected))}] (channels last), got {list(x.shape)}"
        )
    if not np.isfinite(x).all():
        raise InputError("input holds NaN or infinity")
    return x
