"""Multipliers, biases, clamp bounds and tables, against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subbyte.errors import GraphError
from subbyte.execute.reference import activation_function
from subbyte.quant import (
    QParams,
    activation_table,
    clamp_bounds,
    conv_multiplier,
    gate_multiplier_scale,
    quantize_bias,
)
from tests.unit.exact import clamp, fl, rne

scales = st.floats(width=32, min_value=2.0**-30, max_value=2.0**10)


@given(scales, scales, scales)
def test_conv_multiplier(x: float, w: float, target: float) -> None:
    weight = np.array([w], np.float32)
    product = fl(Fraction(x) * Fraction(w))
    assert conv_multiplier(QParams(x, 0), weight, None)[0].item() == product
    quotient = conv_multiplier(QParams(x, 0), weight, QParams(target, 0))
    assert quotient.dtype == np.float32
    assert Fraction(quotient[0].item()) == fl(product / Fraction(target))


@given(st.floats(-1e3, 1e3, width=32), scales, scales)
def test_bias_in_accumulator_units(bias: float, x: float, w: float) -> None:
    exact = Fraction(bias) / (Fraction(x) * Fraction(w))
    arguments = np.array([bias], np.float32), QParams(x, 0), np.array([w], np.float32)
    if abs(exact) > 2**30 + 1:
        with pytest.raises(GraphError, match="does not fit its accumulator"):
            quantize_bias(*arguments)
    elif abs(exact) < 2**30 - 1:
        # float(Fraction) is the float64 quotient; rounding it is the definition
        assert quantize_bias(*arguments).tolist() == [round(float(exact))]


def test_bias_halves_go_to_even() -> None:
    bias = np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32)
    assert quantize_bias(bias, QParams(1.0, 0), np.ones(5, np.float32)).tolist() == [0, 2, 2, 0, -2]


@given(scales, scales, scales)
def test_gate_multiplier(x: float, gate: float, y: float) -> None:
    expected = fl(fl(fl(Fraction(x) * Fraction(gate)) / Fraction(y)) * 256)
    result = gate_multiplier_scale(QParams(x, 0), QParams(gate, 0), QParams(y, 0))
    assert result.dtype == np.float32
    assert Fraction(result.item()) == expected


@given(scales, st.integers(0, 255))
def test_clamp_bounds(scale: float, zero: int) -> None:
    y = QParams(scale, zero)
    assert clamp_bounds("none", y) == (0, 255)
    assert clamp_bounds("relu", y) == (zero, 255)
    assert clamp_bounds("relu6", y) == (zero, min(255, rne(fl(6 / Fraction(scale))) + zero))


def test_clamp_bounds_of_a_curve() -> None:
    with pytest.raises(GraphError, match="needs a table"):
        clamp_bounds("silu", QParams(1.0, 0))


@pytest.mark.parametrize("act", ["none", "relu", "relu6"])
@given(scale=scales, y_scale=scales, zero=st.integers(0, 255), y_zero=st.integers(0, 15))
def test_table_of_a_piecewise_linear_function(
    act: str, scale: float, y_scale: float, zero: int, y_zero: int
) -> None:
    pre, y = QParams(scale, zero), QParams(y_scale, y_zero, 4)
    table = activation_table(activation_function(act), pre, y)
    assert table.dtype == np.uint8
    for code, result in enumerate(table.tolist()):
        value = (code - zero) * Fraction(scale)  # exact in float64: 9 times 24 bits
        least, most = Fraction(0), Fraction(6)
        value = {"none": value, "relu": max(value, least), "relu6": min(max(value, least), most)}[act]
        # the division is the one float64 rounding
        assert result == clamp(round(float(value / Fraction(y_scale))) + y_zero, 0, 15)


@pytest.mark.parametrize(
    "act", ["silu", "hard_swish", "sigmoid", "hard_sigmoid", "gelu", "tanh", "leaky_relu"]
)
def test_table_of_a_curve_is_within_half_a_step(act: str) -> None:
    pre, y = QParams(0.0625, 130), QParams(0.03125, 20)
    fn = activation_function(act)
    for code, result in enumerate(activation_table(fn, pre, y).tolist()):
        wanted = float(fn(np.array([(code - 130) * 0.0625]))[0]) / 0.03125 + 20
        assert abs(result - min(max(wanted, 0.0), 255.0)) <= 0.5


@pytest.mark.parametrize("act", ["none", "relu", "silu", "sigmoid"])
def test_table_of_levels_takes_the_nearest(act: str) -> None:
    pre, y = QParams(0.0625, 130), QParams(0.03125, 20, 3, (0, 9, 14, 20, 21, 50, 100, 255))
    fn = activation_function(act)
    table = activation_table(fn, pre, y)
    wanted = fn((np.arange(256) - 130) * 0.0625) / 0.03125 + 20
    assert set(table.tolist()) <= set(y.levels)  # type: ignore[arg-type]
    for result, value in zip(table.tolist(), wanted.tolist(), strict=True):
        assert result == min(y.levels, key=lambda level: abs(level - value))  # type: ignore[arg-type]


def test_of_two_levels_equally_near_a_table_takes_the_lower() -> None:
    y = QParams(1.0, 2, 2, (0, 1, 2, 5))
    assert activation_table(activation_function("none"), QParams(0.5, 2), y)[:8].tolist() == [
        *(1, 1, 2, 2, 2, 2, 5, 5)
    ]


def test_table_beyond_a_narrow_grid_repeats_its_end() -> None:
    table = activation_table(activation_function("none"), QParams(1.0, 3, 4), QParams(1.0, 3))
    assert table.tolist() == [*range(16), *[15] * 240]
