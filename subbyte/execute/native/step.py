"""How an operation becomes one of the engine's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from subbyte.ir import Node, Value

Factors = tuple[float, float]
Numbers = Callable[[Node], list[int]]
Multiplier = Callable[[Node, list[Value], Value], np.ndarray | None]


def no_factors(inputs: list[Value], output: Value) -> Factors:
    """Nothing that the engine multiplies with."""
    return 0.0, 0.0


@dataclass(frozen=True)
class Row:
    """engine: the operation's name in ops.inc. factors: of quantized values, its scalar multipliers.
    multiplier: float32 [C], a multiplier for each channel; None where there is none. numbers: what its
    attributes become in engine.h's NodeDesc."""

    engine: str
    factors: Callable[[list[Value], Value], Factors] = no_factors
    multiplier: Multiplier = lambda node, inputs, output: None
    numbers: Numbers = lambda node: []
