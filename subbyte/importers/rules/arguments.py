"""Reading the arguments of an operator, whatever file it stands in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from subbyte.importers.rules.builder import Rejected
from subbyte.importers.rules.problems import Site

#: By the names of torch's schema.
Arguments = Mapping[str, Any]
Shape = tuple[int, ...]


def need(condition: bool, reason: str, origin: Site | None = None) -> None:
    """Raises Rejected with the reason unless the condition holds."""
    if not condition:
        raise Rejected(reason, origin)


def pair(x: Any) -> list[int]:
    """A number or two, for height and width."""
    values = [x] if isinstance(x, int) else list(x)
    return values * 2 if len(values) == 1 else values


def window_pads(padding: Any, pending: tuple[int, int, int, int], kernel: tuple[int, ...]) -> list[int]:
    """A window's own padding and what is pending on its operand, (t, b, l, r)."""
    if padding == "valid":
        own = [0, 0, 0, 0]
    elif padding == "same":  # torch puts the odd zero last
        own = [side for k in kernel for side in ((k - 1) // 2, k - 1 - (k - 1) // 2)]
    else:
        own = [p for p in pair(padding) for _ in range(2)]
    return [p + q for p, q in zip(own, pending, strict=True)]
