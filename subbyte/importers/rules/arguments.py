"""Reading the arguments of an operator, whatever file it stands in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from subbyte.importers.rules.builder import Rejected
from subbyte.importers.rules.operands import Builder, Operand
from subbyte.importers.rules.problems import Site
from subbyte.importers.rules.strides import Shape as Shape

#: Elements of a matrix that an importer makes in place of an operation.
MAX_MATRIX = 1 << 22

#: By the names of torch's schema. Tensors are Operands (they depend on the image) or arrays (they do not).
Arguments: TypeAlias = Mapping[str, Any]
#: A rule: builder, arguments, shape of the result (torch's) -> result. Raises Rejected with the reason.
Rule: TypeAlias = Callable[[Builder, Arguments, Shape], Operand]


def need(condition: bool, reason: str, origin: Site | None = None) -> None:
    """Raises Rejected with the reason unless the condition holds."""
    if not condition:
        raise Rejected(reason, origin)


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


def number(x: Any, what: str) -> float:
    """A number, or a constant of one element. Rejected if it is none."""
    if isinstance(x, np.ndarray) and x.size == 1:
        x = x.item()
    need(isinstance(x, (int, float)), f"its {what} is not a number")
    return float(x)


def pair(x: Any) -> list[int]:
    """A number or two, for height and width."""
    values = [x] if isinstance(x, int) else list(x)
    return values * 2 if len(values) == 1 else values


def size_text(x: Any) -> str:
    """ "3 x 3" of [3, 3] or 3."""
    return " x ".join(map(str, pair(x)))


def window_pads(padding: Any, pending: tuple[int, int, int, int], kernel: tuple[int, ...]) -> list[int]:
    """A window's own padding and what is pending on its operand, (t, b, l, r)."""
    if padding == "valid":
        own = [0, 0, 0, 0]
    elif padding == "same":  # torch puts the odd zero last
        own = [side for k in kernel for side in ((k - 1) // 2, k - 1 - (k - 1) // 2)]
    else:
        own = [p for p in pair(padding) for _ in range(2)]
    return [p + q for p, q in zip(own, pending, strict=True)]
