"""Shape rules against counting, and the graph's small functions."""

from __future__ import annotations

import math
import re
from dataclasses import FrozenInstanceError
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subbyte.errors import GraphError
from subbyte.execute.reference import activation_function
from subbyte.ir import ACTIVATIONS, OPS, Node
from subbyte.ir.activations import activation, parse_activation
from subbyte.ir.graph import consumers, pre_activation, producers, rebuild
from subbyte.ir.ops import ATTRS, window
from subbyte.quant import QParams
from tests.fuzz.builder import PARAMETRIC
from tests.unit.ir.breakage import coded, of

small = st.integers(1, 9)


@given(small, small, small, small, st.integers(1, 4), st.integers(1, 4), st.tuples(*[st.integers(0, 3)] * 4))
def test_window_counts_positions(
    height: int, width: int, kh: int, kw: int, sh: int, sw: int, pad: tuple[int, int, int, int]
) -> None:
    node = Node("n", "max_pool2d", ("x",), "y", {"kernel": (kh, kw), "stride": (sh, sw), "pad": pad})
    top, bottom, left, right = pad
    rows = [r for r in range(0, height + top + bottom, sh) if r + kh <= height + top + bottom]
    columns = [c for c in range(0, width + left + right, sw) if c + kw <= width + left + right]
    fits = max(top, bottom) < kh and max(left, right) < kw and rows and columns
    if fits:
        assert window(node, (height, width, 1), (kh, kw)) == (len(rows), len(columns))
    else:
        with pytest.raises(GraphError):
            window(node, (height, width, 1), (kh, kw))


def test_every_attribute_and_activation_is_known() -> None:
    listed = {name for op in OPS.values() for name in (*op.attrs, *op.optional)} - {"table", "channel_scale"}
    assert listed == set(ATTRS)
    for name in ACTIVATIONS:
        assert activation_function(name)(np.zeros(1)).shape == (1,)
    with pytest.raises(GraphError, match="unknown activation 'selu'"):
        activation_function("selu")


@pytest.mark.parametrize("act", [*ACTIVATIONS, *PARAMETRIC])
def test_the_slope_of_an_activation_bounds_its_growth(act: str) -> None:
    """And is no more than a hundredth above it."""
    row, parameters = parse_activation(act)
    x = np.linspace(-6.5, 6.5, 100_001)
    steepest = np.abs(np.diff(activation_function(act)(x)) / np.diff(x)).max()
    slope = row.slope(*parameters)
    assert steepest <= slope * (1 + 1e-9)
    assert act in ("sigmoid", "hard_sigmoid") or steepest >= 0.99 * slope


@pytest.mark.parametrize(
    ("act", "message"),
    [
        ("selu", "unknown activation 'selu'; known: none, relu,"),
        ("relu:1.0", "relu has 0 parameters, not 1"),
        ("elu:1.0", "elu has 3 parameters, not 1"),
        ("leaky_relu:0.01", "must be written 'leaky_relu'"),
        ("leaky_relu:.5", "must be written 'leaky_relu:0.5'"),
        ("leaky_relu:1", "must be written 'leaky_relu:1.0'"),
        ("leaky_relu:-0.0", "must be written 'leaky_relu:0.0'"),
        ("leaky_relu:1e99", "slope of leaky_relu must be in -65536 .. 65536, not 1e+99"),
        ("leaky_relu:nan", "slope of leaky_relu must be"),
        ("leaky_relu:inf", "slope of leaky_relu must be"),
        ("leaky_relu:", "a parameter that is no number"),
        ("softplus:0.0", "beta of softplus must be in 1.52587891e-05 .. 65536, not 0.0"),
        ("elu:1.0:1.0:-1.0", "rate of elu must be"),
        ("clip:-inf:1.0", "low of clip must be in -3.40282347e+38 .. 3.40282347e+38, not -inf"),
    ],
)
def test_an_activation_has_one_text(act: str, message: str) -> None:
    with pytest.raises(GraphError, match=re.escape(message)):
        parse_activation(act)
    assert not ATTRS["act"].accepts(act)


def test_the_text_of_an_activation_keeps_its_parameters_exactly() -> None:
    for value in (0.1, 1 / 3, 2.0**-16, 12345.678, -2.5):
        act = activation("leaky_relu", value)
        assert parse_activation(act)[1] == (value,)
    assert activation("leaky_relu", 0.01) == activation("leaky_relu") == "leaky_relu"


def test_lookups() -> None:
    graph = coded()
    assert graph.node("add5").op == "add"
    assert graph.value("image").shape == (8, 8, 4)
    assert graph.value("image").dtype == "float32"
    assert graph.value("v0").dtype == "uint8"
    with pytest.raises(GraphError, match="no node 'nothing'"):
        graph.node("nothing")
    with pytest.raises(GraphError, match="no value 'nothing'"):
        graph.value("nothing")


def test_edges() -> None:
    graph = coded()
    assert producers(graph)["v5"].name == "add5"
    assert [node.name for node in consumers(graph)["v0"]] == ["conv2d1", "conv2d2", "add5"]
    assert consumers(graph)["v13"] == []


def test_rebuild_forgets_idle_values() -> None:
    graph = coded()
    kept = [node for node in graph.nodes if node.op != "dequantize"]
    smaller = rebuild(rebuild(graph, graph.nodes), kept)
    assert "v14" in smaller.values  # still an output
    assert "v13" in smaller.values
    assert len(rebuild(graph, graph.nodes[:2]).values) == 5  # image, v0, v1 and the two outputs


def test_pre_activation_grid() -> None:
    graph = coded()
    curved, projected = of(graph, "conv2d"), of(graph, "conv2d", 1)
    pre = pre_activation(curved, graph.value("v1"))
    assert pre == QParams(curved.attrs["pre_scale"], curved.attrs["pre_zero"], 8)
    assert pre_activation(projected, graph.value("v2")) == graph.value("v2").q
    assert pre_activation(of(graph, "linear"), graph.value("v13")) is None


def test_types_are_frozen() -> None:
    graph = coded()
    with pytest.raises(FrozenInstanceError):
        graph.nodes[0].name = "other"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        graph.input = "other"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        graph.values["v0"].shape = (1,)  # type: ignore[misc]


def test_activations_at_known_points() -> None:
    """Values that follow from the definitions by hand."""
    points: dict[str, list[tuple[float, float | Fraction]]] = {
        "none": [(-2.5, -2.5), (3, 3)],
        "relu": [(-1, 0), (2, 2)],
        "relu6": [(-1, 0), (2, 2), (7, 6)],
        "silu": [(0, 0)],
        "hard_swish": [(-3, 0), (0, 0), (3, 3), (1, Fraction(2, 3)), (-4, 0), (5, 5)],
        "sigmoid": [(0, 0.5)],
        "hard_sigmoid": [(-3, 0), (0, 0.5), (3, 1), (9, 1)],
        "gelu": [(0, 0)],
        "tanh": [(0, 0)],
        "leaky_relu": [(1, 1), (-1, -0.01)],
        "leaky_relu:0.25": [(1, 1), (-1, -0.25)],
        "gelu_tanh": [(0, 0)],
        "elu": [(0, 0), (2, 2), (-1, math.exp(-1) - 1)],
        "elu:0.5:3.0:2.0": [(2, 6), (-1, 1.5 * (math.exp(-2) - 1))],
        "mish": [(0, 0), (1, (1 - 2 / ((1 + math.e) ** 2 + 1)))],
        "softplus": [(0, math.log(2)), (1, math.log(1 + math.e)), (800, 800)],
        "softplus:4.0": [(0, math.log(2) / 4), (-1, math.log1p(math.exp(-4)) / 4)],
        "clip": [(-7, -1), (0.5, 0.5), (7, 1)],
        "clip:0.5:2.0": [(-7, 0.5), (1, 1), (7, 2)],
    }
    assert set(ACTIVATIONS) <= set(points)
    for name, pairs in points.items():
        for x, y in pairs:
            assert abs(activation_function(name)(np.array([float(x)]))[0] - float(y)) <= 2**-51 * abs(
                float(y)
            )
    for x in (-3.0, -0.5, 0.25, 4.0):
        logistic = 1 / (1 + np.exp(-x))
        assert np.isclose(activation_function("sigmoid")(np.array([x]))[0], logistic, rtol=1e-14)
        assert np.isclose(activation_function("silu")(np.array([x]))[0], x * logistic, rtol=1e-14)
