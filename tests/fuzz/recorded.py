"""The engine's descriptors of a graph as objects whose fields Python can read and change."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from subbyte import _native
from subbyte.execute.native import lower as lowering
from subbyte.ir import Graph

WINDOW = ("kernel_h", "kernel_w", "stride_h", "stride_w", "pad_top", "pad_bottom", "pad_left", "pad_right")


class Value(SimpleNamespace):
    """Stands for _native.ValueDesc."""

    def __init__(self) -> None:
        super().__init__(
            name="", height=1, width=1, channels=1,
            quantized=False, scale=1.0, zero_point=0, bits=8, level_bits=0,
        )  # fmt: skip


class Node(SimpleNamespace):
    """Stands for _native.NodeDesc, with the values that a new one has."""

    def __init__(self) -> None:
        empty = np.zeros(0)
        super().__init__(
            name="", op=_native.Op.quantize, inputs=[], output=0, numbers=[], dilation_h=1, dilation_w=1,
            eps=0.0, activation=(_native.Act.none, 0.0, 0.0, 0.0),
            window=(1, 1, 1, 1, 0, 0, 0, 0), groups=1, weight_format="", packed=empty, levels=empty,
            bias=empty, multiplier=empty, clamp_low=0, clamp_high=255, table=None, pre_zero=0,
            weight_real=empty, bias_real=empty, factor_a=0.0, factor_b=0.0,
        )  # fmt: skip

    def set_window(self, *window: int) -> None:
        assert len(window) == len(WINDOW)
        self.window = window

    def set_activation(self, act: Any, *parameters: float) -> None:
        self.activation = (act, *parameters)

    def set_table(self, table: np.ndarray) -> None:
        self.table = table

    def set_codes(
        self, packed: np.ndarray, levels: np.ndarray, bias: np.ndarray, multiplier: np.ndarray
    ) -> None:
        self.packed, self.levels, self.bias, self.multiplier = packed, levels, bias, multiplier

    def set_multiplier(self, multiplier: np.ndarray) -> None:
        self.multiplier = multiplier

    def set_real(self, weight: np.ndarray, bias: np.ndarray) -> None:
        self.weight_real, self.bias_real = weight, bias


def recorded(graph: Graph) -> dict[str, Any]:
    """What lower() says of a graph, in classes whose fields Python can read."""
    native = SimpleNamespace(ValueDesc=Value, NodeDesc=Node, Op=_native.Op, Act=_native.Act)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lowering, "_native", native)
        return lowering.lower(graph)
