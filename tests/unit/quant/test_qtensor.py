"""Quantized weights."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subbyte.errors import GraphError
from subbyte.quant import Format, QTensor, quantize_weight, uniform_levels, weight_format
from tests.unit.exact import clamp, fl, real, rne

f32 = np.float32


def make(**changes: Any) -> QTensor:
    fields: dict[str, Any] = {
        "codes": np.array([[0, 1], [2, 3]], np.uint8),
        "scale": np.array([0.5, 2.0], f32),
        "format": weight_format(2),
        "levels": uniform_levels(2),
    }
    return QTensor(**(fields | changes))


def test_plain_levels_are_twos_complement() -> None:
    assert uniform_levels(2).tolist() == [0, 1, -2, -1]
    assert uniform_levels(3).tolist() == [0, 1, 2, 3, -4, -3, -2, -1]
    assert uniform_levels(4).tolist() == [*range(8), *range(-8, 0)]
    assert uniform_levels(8).tolist() == [*range(128), *range(-128, 0)]


def test_values_go_through_the_code_book() -> None:
    tensor = make(levels=np.array([-100, -7, 9, 127], np.int8), format=Format("int", 2, book=True))
    assert tensor.values().tolist() == [[-100, -7], [9, 127]]
    assert tensor.dequantize().tolist() == [[-50.0, -3.5], [18.0, 254.0]]


@given(st.sampled_from([2, 3, 4, 8]), st.integers(0, 2**32 - 1))
def test_from_values_keeps_the_values(bits: int, seed: int) -> None:
    half = 1 << (bits - 1)
    values = np.random.default_rng(seed).integers(-half, half, (3, 5))
    tensor = QTensor.from_values(values, np.ones(3, f32), weight_format(bits))
    assert np.array_equal(tensor.values(), values)


@pytest.mark.parametrize("value", [-9, 8])
def test_from_values_refuses_what_does_not_fit(value: int) -> None:
    with pytest.raises(GraphError, match="do not fit in 4 bits"):
        QTensor.from_values(np.array([[value]]), np.ones(1, f32), weight_format(4))


@given(st.sampled_from([2, 3, 4, 8]), st.integers(0, 2**32 - 1))
def test_quantize_weight_rounds_to_nearest(bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight, scale = rng.normal(0, 1, (2, 6)).astype(f32), rng.uniform(0.01, 1, 2).astype(f32)
    values = quantize_weight(weight, scale, weight_format(bits)).values()
    half = 1 << (bits - 1)
    low = -half + 1 if bits == 8 else -half
    for index in np.ndindex(weight.shape):
        ratio = fl(real(weight, *index) / Fraction(scale[index[0]].item()))
        assert values[index] == clamp(rne(ratio), low, half - 1)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"format": Format("int", 5)}, "must be one of int8, int4, int3, int2, got int5"),
    ({"format": Format("uint", 2)}, "must be one of .* got uint2"),
    ({"format": 2}, "must be one of .* got 2"),
    ({"format": "int2"}, "must be one of .* got int2"),
    ({"format": Format("int", 2, book=True)}, "levels of weights contradict their format int2.book"),
    ({"levels": np.array([-2, -1, 0, 1], np.int8)}, "levels of weights contradict their format int2"),
    ({"codes": [[0]]}, "must be numpy arrays"),
    ({"scale": None}, "must be numpy arrays"),
    ({"codes": np.zeros((2, 2), np.int8)}, "must be a uint8 array"),
    ({"codes": np.zeros(2, np.uint8)}, "output channels first"),
    ({"codes": np.full((2, 2), 4, np.uint8)}, "does not fit in 2 bits"),
    ({"levels": uniform_levels(4)}, r"code book must be int8 \[4\]"),
    ({"levels": np.zeros(4, np.uint8)}, "code book must be int8"),
    ({"scale": np.ones(3, f32)}, r"scale must be float32 \[2\]"),
    ({"scale": np.ones(2, np.float64)}, "scale must be float32"),
    ({"scale": np.array([1, np.nan], f32)}, "positive and finite"),
    ({"scale": np.array([1, np.inf], f32)}, "positive and finite"),
    ({"scale": np.array([1, 0], f32)}, "positive and finite"),
    ({"scale": np.array([1, -1], f32)}, "positive and finite"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        make(**changes)
