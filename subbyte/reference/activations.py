"""Activation functions on real numbers, float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from subbyte.errors import GraphError

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


_FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0.0),
    "relu6": lambda x: np.clip(x, 0.0, 6.0),
    "silu": lambda x: x * _sigmoid(x),
    "hard_swish": lambda x: x * np.clip(x + 3.0, 0.0, 6.0) / 6.0,
    "sigmoid": _sigmoid,
    "hard_sigmoid": lambda x: np.clip(x + 3.0, 0.0, 6.0) / 6.0,
    "gelu": lambda x: 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0))),
    "tanh": np.tanh,
    "leaky_relu": lambda x: np.where(x >= 0.0, x, 0.01 * x),
}


def activation_function(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """The float64 function behind an `act` attribute. GraphError if the name is unknown."""
    try:
        return _FUNCTIONS[name]
    except KeyError:
        raise GraphError(f"unknown activation {name!r}; known: {', '.join(_FUNCTIONS)}") from None
