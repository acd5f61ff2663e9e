"""Reading an operator's arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from subbyte.importers.rules.arguments import Arguments, Shape, need
from subbyte.importers.rules.builder import Builder, Operand, Rejected

#: In arguments tensors are Operands (they depend on the image) or numpy arrays (they do not).
#: A rule: builder, arguments, shape of the result (torch's) -> result. Raises Rejected with the reason.
Rule = Callable[[Builder, Arguments, Shape], Operand]


def operand(x: Any) -> Operand:
    """The value of the graph. Rejected if it is a constant."""
    if not isinstance(x, Operand):
        raise Rejected("its first tensor is a constant")
    return x


def array(x: Any, what: str) -> np.ndarray:
    """A constant as float32, a copy. Rejected if it depends on the image."""
    need(isinstance(x, np.ndarray), f"its {what} is computed from the image")
    return np.array(x, np.float32, order="C")  # a copy, not the model's memory


def vector(x: Any, what: str, size: int, default: float) -> np.ndarray:
    """A constant, float32 [size]; `default` everywhere if there is none."""
    return np.full(size, default, np.float32) if x is None else array(x, what)
