"""What the reference's operations have in common: the step they are given, their row, codes and bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from subbyte.ir import Node, Value
from subbyte.quant import QParams

f32 = np.float32
UNIT = 2.0**-24  # half an ulp of 1


@dataclass(frozen=True)
class Step:
    """What an op needs to know besides its inputs: the node, its inputs' values and its output's."""

    node: Node
    inputs: list[Value]
    output: Value

    @property
    def quantized(self) -> bool:
        """Whether its input holds codes."""
        return self.inputs[0].q is not None

    @property
    def target(self) -> QParams:
        """The grid of the output."""
        return self.output.grid

    def grid(self, index: int) -> QParams:
        """The grid of input `index`."""
        return self.inputs[index].grid


@dataclass(frozen=True)
class Row:
    """An operation: what it computes, and how far a float32 executor may be from that.

    run: arrays with a leading batch dimension, float32 or uint8 codes, to one.
    bound: of a float32 step, from the reference's inputs and how far the executor's are from each of
    them (float64, same shapes), for each element of the output; None where no step is float32 throughout.
    """

    run: Callable[[Step, list[np.ndarray]], np.ndarray]
    bound: Callable[[Step, list[np.ndarray], list[np.ndarray]], np.ndarray] | None = None


def store(v: np.ndarray, q: QParams, low: int = 0, high: int | None = None) -> np.ndarray:
    """clamp(rne(v) + z, low, high) for float32 v."""
    assert v.dtype == np.float32
    codes = np.rint(v).astype(np.int64) + q.zero_point
    return np.clip(codes, low, q.qmax if high is None else high).astype(np.uint8)


def centred(codes: np.ndarray, q: QParams) -> np.ndarray:
    """q - z, int32."""
    return codes.astype(np.int32) - q.zero_point


def gamma(n: int) -> float:
    """n roundings, one after another, change a number by at most this factor."""
    return n * UNIT / (1 - n * UNIT)


def moving(run: Callable[[Step, list[np.ndarray]], np.ndarray]) -> Row:
    """An op that moves elements: errors move with them, and a window's largest may reach its maximum."""
    return Row(run, lambda step, arrays, errors: run(step, errors).astype(np.float64))
