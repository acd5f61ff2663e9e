"""How an operation becomes one of the engine's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from subbyte.ir import Value

Factors = tuple[float, float]


def no_factors(inputs: list[Value], output: Value) -> Factors:
    """Nothing that the engine multiplies with."""
    return 0.0, 0.0


@dataclass(frozen=True)
class Row:
    """engine: the operation's name in ops.inc. factors: of quantized values, its scalar multipliers."""

    engine: str
    factors: Callable[[list[Value], Value], Factors] = no_factors
