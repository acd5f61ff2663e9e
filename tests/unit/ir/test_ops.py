"""Shape rules against counting, and the graph's small functions."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subbyte.errors import GraphError
from subbyte.ir import ACTIVATIONS, OPS, Node
from subbyte.ir.graph import consumers, pre_activation, producers, rebuild
from subbyte.ir.ops import ATTRS, window
from subbyte.quant import QParams
from subbyte.reference import activation_function
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
    listed = {name for op in OPS.values() for name in (*op.attrs, *op.optional) if name != "table"}
    assert listed == set(ATTRS)
    for name in ACTIVATIONS:
        assert activation_function(name)(np.zeros(1)).shape == (1,)
    with pytest.raises(GraphError, match="unknown activation 'selu'"):
        activation_function("selu")


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
    points = {
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
    }
    assert set(points) == set(ACTIVATIONS)
    for name, pairs in points.items():
        for x, y in pairs:
            assert abs(activation_function(name)(np.array([float(x)]))[0] - float(y)) <= 2**-52 * abs(
                float(y)
            )
    for x in (-3.0, -0.5, 0.25, 4.0):
        logistic = 1 / (1 + np.exp(-x))
        assert np.isclose(activation_function("sigmoid")(np.array([x]))[0], logistic, rtol=1e-14)
        assert np.isclose(activation_function("silu")(np.array([x]))[0], x * logistic, rtol=1e-14)
