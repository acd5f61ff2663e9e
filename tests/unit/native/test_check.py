"""native/plan/check.cc alone: descriptors that the Python verifier would have refused before."""

from __future__ import annotations

import numpy as np
import pytest

from subbyte import _native

EXTREME = (1 << 31) - 1
Window = tuple[int, int, int, int, int, int, int, int]


def value(height: int, width: int, channels: int) -> _native.ValueDesc:
    v = _native.ValueDesc()
    v.height, v.width, v.channels = height, width, channels
    return v


def node(op: _native.Op, inputs: list[int], output: int) -> _native.NodeDesc:
    n = _native.NodeDesc()
    n.op, n.inputs, n.output = op, inputs, output
    return n


def model(values: list[_native.ValueDesc], nodes: list[_native.NodeDesc]) -> _native.Model:
    last = nodes[-1].output
    options = {"threads": 1, "streams": 1, "depth_first_above": -1, "memory_limit": 0}
    return _native.Model(values, nodes, input=0, outputs=[last], isa="portable", **options)


def pool(window: Window, size: int = 1) -> _native.Model:
    n = node(_native.Op.max_pool2d, [0], 1)
    n.set_window(*window)
    return model([value(size, size, 1), value(1, 1, 1)], [n])


def test_a_window_is_taken() -> None:
    assert pool((16, 16, 65536, 65536, 15, 0, 15, 0)).steps()[0]["op"] == "max_pool2d"


@pytest.mark.parametrize(
    "window",
    [
        (65536, 65536, 1, 1, 65535, 0, 65535, 0),  # 2**32 positions: 0 in 32 bits
        (65536, 32768, 1, 1, 65535, 0, 32767, 0),  # -2**31
        (EXTREME, EXTREME, 1, 1, EXTREME - 1, 0, EXTREME - 1, 0),  # 1
        (257, 1, 1, 1, 256, 0, 0, 0),
        (1, 1, 65537, 1, 0, 0, 0, 0),
        (1, 1, 1, EXTREME, 0, 0, 0, 0),
        (1, 1, 0, 1, 0, 0, 0, 0),
        (1, 1, 1, 1, EXTREME, EXTREME, 0, 0),
        (2, 2, 1, 1, -1, 2, 0, 1),
    ],
)
def test_windows_out_of_range_are_refused(window: Window) -> None:
    with pytest.raises(ValueError, match=r"kernel|stride|padding"):
        pool(window)


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 2.0**21, -(2.0**21)])
def test_factors_out_of_range_are_refused(factor: float) -> None:
    n = node(_native.Op.add, [0, 0], 1)
    n.factor_a = factor
    with pytest.raises(ValueError, match="factor"):
        model([value(1, 1, 4), value(1, 1, 4)], [n])


@pytest.mark.parametrize(
    "multiplier",
    [[], [1.0] * 3, [1.0] * 5, [1, 1, 1, -1], [1, np.nan, 1, 1], [1, 1, np.inf, 1], [2.0**21, 1, 1, 1]],
)
def test_multipliers_of_a_gate_are_one_a_channel_and_in_range(multiplier: list[float]) -> None:
    values = [value(1, 1, 4) for _ in range(3)]
    values[1].quantized = values[2].quantized = True
    mul = node(_native.Op.mul, [1, 1], 2)
    mul.set_multiplier(np.array([0, 1, 2.0**20, 1e-30], "f4"))
    model(values, [node(_native.Op.quantize, [0], 1), mul])
    mul.set_multiplier(np.array(multiplier, "f4"))
    with pytest.raises(ValueError, match="multiplier"):
        model(values, [node(_native.Op.quantize, [0], 1), mul])


def codes_to_real(residual: bool) -> _native.Model:
    values = [value(1, 1, 4) for _ in range(3)]
    values[1].quantized = True
    conv = node(_native.Op.conv2d, [1, 0] if residual else [1], 2)
    conv.set_codes(np.zeros(16, "u1"), np.arange(256).astype("i1"), np.zeros(4, "i4"), np.ones(4, "f4"))
    return model(values, [node(_native.Op.quantize, [0], 1), conv])


def test_a_residual_that_nothing_would_add_is_refused() -> None:
    codes_to_real(residual=False)
    with pytest.raises(ValueError, match="residual"):
        codes_to_real(residual=True)
