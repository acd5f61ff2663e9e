"""Every arithmetic rule of the verifier has a graph that breaks it, and its bound is the exact one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from subbyte.errors import GraphError
from subbyte.ir import ACTIVATIONS, Graph, Node, Value, verify
from subbyte.quant import QParams, QTensor, uniform_levels
from subbyte.quant.format import INT8
from tests.unit.ir.breakage import attr, coded, insert, node, of, param, plain, value, without

Break = Callable[[Graph], Graph]
f32 = np.float32


def grid_of(op: str, q: QParams | None, number: int = 0) -> Break:
    return lambda g: value(g, of(g, op, number).output, q=q)


def first(op: str, edit: Callable[..., Graph], number: int = 0, /, **changes: Any) -> Break:
    return lambda g: edit(g, of(g, op, number), **changes)


def real_activation(graph: Graph) -> Graph:
    return insert(graph, Node("late", "activation", ("v0",), "late", {"act": "none"}), (8, 8, 4))


PACKED = QTensor(np.zeros((2, 4), np.uint8), np.ones(2, f32), INT8, uniform_levels(8))

RULES: list[tuple[str, Break, str]] = [
    ("quantize makes float", grid_of("quantize", None), "must turn float32 into"),
    (
        "quantize reads codes",
        first("quantize", node, 0, inputs=("image",), op="dequantize"),
        "must turn a quant",
    ),
    ("dequantize makes codes", grid_of("dequantize", QParams(1.0, 0)), "must turn a quantized value into"),
    ("mixed inputs", lambda g: insert(g, Node("n", "add", ("v0", "image"), "n"), (8, 8, 4)), "mixes float32"),
    ("conv makes float", grid_of("conv2d", None), "may turn codes into float32"),
    ("conv with residual makes float", grid_of("conv2d", None, 1), "may turn codes into float32"),
    ("activation makes float", real_activation, "may turn codes into float32"),
    ("add makes float", grid_of("add", None), "may turn codes into float32"),
    ("max_pool2d changes the grid", grid_of("max_pool2d", QParams(1.0, 0)), "must keep the grid"),
    ("concat changes the grid", grid_of("concat", QParams(1.0, 0)), "must keep the grid"),
    ("flatten changes the grid", grid_of("flatten", QParams(1.0, 0)), "must keep the grid"),
    ("gate too fine", grid_of("mul", QParams(2.0**-20, 0)), "does not fit 16 bits"),
    ("gate infinite", grid_of("mul", QParams(2.0**-126, 0)), "does not fit 16 bits"),
    *(
        (f"channel_scale {what}", first("mul", param, channel_scale=wrong), message)
        for what, wrong, message in (
            ("packed", PACKED, "channel_scale must be float32 \\[4\\]"),
            ("of another size", np.ones(3, f32), "channel_scale must be float32 \\[4\\]"),
            ("of another rank", np.ones((1, 1, 4), f32), "channel_scale must be float32 \\[4\\]"),
            ("float16", np.ones(4, np.float16), "channel_scale must be float32 \\[4\\]"),
            ("zero", np.array([1, 0, 1, 1], f32), "within 2\\*\\*-16"),
            ("negative", np.array([1, 1, 1, -1], f32), "within 2\\*\\*-16"),
            ("tiny", np.array([1, 1, 1, 2.0**-17], f32), "within 2\\*\\*-16"),
            ("huge", np.array([1, 1, 1, 2.0**17], f32), "within 2\\*\\*-16"),
            ("NaN", np.array([1, np.nan, 1, 1], f32), "NaN or infinity"),
            ("infinite", np.array([1, np.inf, 1, 1], f32), "NaN or infinity"),
            ("that saturates", np.array([1, 2.0**13, 1, 1], f32), "does not fit 16 bits"),
        )
    ),
    ("channel_scale of an add", first("add", param, channel_scale=np.ones(4, f32)), "unexpected"),
    ("add too fine", grid_of("add", QParams(2.0**-40, 0)), "2\\*\\*20 times coarser"),
    ("pool too fine", grid_of("global_avg_pool", QParams(2.0**-40, 0)), "2\\*\\*20 times coarser"),
    ("six too fine", grid_of("conv2d", QParams(2.0**-30, 0), 2), "six lies beyond"),
    ("table missing", lambda g: without(g, of(g, "conv2d"), "table"), "needs a table"),
    ("activation table missing", lambda g: without(g, of(g, "activation"), "table"), "needs a table"),
    ("table idle", first("conv2d", attr, act="relu"), "a table that nothing reads"),
    ("pre_scale idle", first("conv2d", attr, 1, pre_scale=1.0), "pre-activation grid but no table"),
    ("pre_zero idle", first("conv2d", attr, 1, pre_zero=0), "pre-activation grid but no table"),
    ("table packed", first("conv2d", param, table=PACKED), "table must be uint8"),
    ("bias packed", first("conv2d", param, bias=PACKED), "bias must be int32"),
    ("pre_scale missing", lambda g: without(g, of(g, "conv2d"), "pre_scale"), "needs pre_scale and pre_zero"),
    ("pre_zero missing", lambda g: without(g, of(g, "conv2d"), "pre_zero"), "needs pre_scale and pre_zero"),
    ("pre_scale beyond float32", first("conv2d", attr, pre_scale=0.1), "not a normal float32"),
    ("table size", first("conv2d", param, table=np.zeros(255, np.uint8)), "table must be uint8"),
    ("table dtype", first("conv2d", param, table=np.zeros(256, np.int8)), "table must be uint8"),
    ("table beyond grid", grid_of("conv2d", QParams(0.5, 0, 2)), "its output ends at 3"),
    ("curve then residual", first("conv2d", node, inputs=("v0", "v0")), "residual cannot follow an act"),
    ("relu then residual", first("conv2d", attr, 1, act="relu"), "residual cannot follow an activation"),
    ("relu6 then residual", first("conv2d", attr, 1, act="relu6"), "residual cannot follow an activation"),
    (
        "float weight",
        first("conv2d", param, weight=np.ones((4, 3, 3, 4), f32)),
        "float weights on a quantized",
    ),
    ("bias float", first("conv2d", param, bias=np.zeros(4, f32)), "bias must be int32"),
    ("bias size", first("conv2d", param, bias=np.zeros(3, np.int32)), "bias must be int32"),
    ("accumulator", first("conv2d", param, bias=np.full(4, -(2**31), np.int32)), "can leave 31 bits"),
    ("output too fine", grid_of("conv2d", QParams(2.0**-60, 0), 1), "far outside its output's grid"),
    ("multiplier infinite", grid_of("conv2d", QParams(2.0**-126, 0), 1), "far outside its output's grid"),
    ("residual too coarse", grid_of("quantize", QParams(2.0**30, 0)), "2\\*\\*20 times coarser|far outside"),
]


LEVELS = QParams(0.5, 4, 2, (0, 4, 9, 200))
LEVEL_RULES: list[tuple[str, Break, str]] = [
    *(
        (op, grid_of(op, LEVELS), "cannot make levels, which need a table")
        for op in ("quantize", "global_avg_pool", "mul", "add")
    ),
    ("conv with a residual", grid_of("conv2d", LEVELS, 1), "cannot make levels, which need a table"),
    ("conv with a clamp", grid_of("conv2d", LEVELS, 2), "needs a table"),
    (
        "another code",
        first("conv2d", param, table=np.full(256, 7, np.uint8)),
        "makes code 7, which is no level",
    ),
    ("keeps no grid", grid_of("max_pool2d", LEVELS), "must keep the grid"),
]


def leveled() -> Graph:
    """`coded`, whose first table makes levels."""
    graph = coded()
    curved = of(graph, "conv2d")
    graph = param(graph, curved, table=np.full(256, 9, np.uint8))
    return verify(value(graph, curved.output, q=LEVELS))


@pytest.mark.parametrize(("change", "message"), [pytest.param(b, m, id=i) for i, b, m in LEVEL_RULES])
def test_only_tables_make_levels_and_nothing_else(change: Break, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        verify(change(leveled()))


def test_a_clamp_has_a_table_where_its_output_has_levels() -> None:
    graph = leveled()
    curved = of(graph, "conv2d")
    for act in ("none", "relu", "relu6"):
        verify(attr(graph, curved, act=act))
    with pytest.raises(GraphError, match="a table that nothing reads"):
        verify(value(attr(graph, curved, act="none"), curved.output, q=QParams(0.5, 4)))


@pytest.mark.parametrize(("change", "message"), [pytest.param(b, m, id=i) for i, b, m in RULES])
def test_refuses(change: Break, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        verify(change(coded()))


FLOAT_RULES: list[tuple[str, Break, str]] = [
    ("float makes codes", grid_of("activation", QParams(1.0, 0)), "use quantize"),
    ("float64 weight", first("conv2d", param, weight=np.ones((4, 3, 3, 3))), "must be float32 or float16"),
    ("big-endian weight", first("conv2d", param, weight=np.ones((4, 3, 3, 3), ">f4")), "must be float32 or"),
    ("float16 bias", first("conv2d", param, bias=np.ones(4, np.float16)), "bias float32"),
    ("bias size", first("conv2d", param, bias=np.ones(5, f32)), "bias float32"),
    ("NaN weight", first("conv2d", param, weight=np.full((4, 3, 3, 3), np.nan, f32)), "NaN or infinity"),
    ("infinite bias", first("linear", param, bias=np.full(2, np.inf, f32)), "NaN or infinity"),
    ("NaN variance", first("batch_norm", param, var=np.full(4, np.nan, f32)), "NaN or infinity"),
    ("negative variance", first("batch_norm", param, var=np.full(4, -1, f32)), "var is negative"),
    ("int mean", first("batch_norm", param, mean=np.zeros(4, np.int32)), "mean must be float32 or"),
    ("mean size", first("batch_norm", param, mean=np.zeros(3, f32)), "mean does not fit"),
    ("empty weight", first("linear", param, weight=np.ones((0, 4), f32)), "weight must be"),
    (
        "packed weight",
        first(
            "linear",
            param,
            weight=QTensor(np.zeros((2, 4), np.uint8), np.ones(2, f32), INT8, uniform_levels(8)),
        ),
        "quantized weights on a float32 input",
    ),
    ("packed bias", first("linear", param, bias=PACKED), "quantized weights on a float32 input"),
    (
        "table on float",
        first("activation", param, table=np.zeros(256, np.uint8)),
        "a table that nothing reads",
    ),
]


@pytest.mark.parametrize(("change", "message"), [pytest.param(b, m, id=i) for i, b, m in FLOAT_RULES])
def test_refuses_float(change: Break, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        verify(change(plain()))


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_every_activation_follows_a_float_layer(act: str) -> None:
    graph = plain()
    verify(attr(graph, of(graph, "conv2d"), act=act))


def test_batch_norm_refuses_codes() -> None:
    graph = coded()
    params = {role: np.ones(4, f32) for role in ("weight", "bias", "mean", "var")}
    late = Node("late", "batch_norm", ("v0",), "late", {"eps": 1e-3}, params)
    with pytest.raises(GraphError, match="cannot work on quantized values; fold it, or dequantize"):
        verify(insert(graph, late, (8, 8, 4), QParams(1.0, 0)))


def linear(codes: int, bias: int, levels: np.ndarray | None = None, scale: float = 2.0**-20) -> Graph:
    """A linear layer of one output whose `codes` weights all have the code 128 (plain: -128)."""
    weight = QTensor(
        np.full((1, codes), 128, np.uint8),
        np.array([scale], f32),
        INT8 if levels is None else INT8.with_book(levels),
        uniform_levels(8) if levels is None else levels,
    )
    params: dict[str, np.ndarray | QTensor] = {"weight": weight, "bias": np.array([bias], np.int32)}
    values = [Value("image", (codes,)), Value("x", (codes,), QParams(2.0**-7, 128)), Value("y", (1,))]
    nodes = (
        Node("q", "quantize", ("image",), "x"),
        Node("linear", "linear", ("x",), "y", {"act": "none"}, params),
    )
    return Graph("image", ("y",), {v.name: v for v in values}, nodes)


def test_the_accumulator_bound_is_exact() -> None:
    most = 65536  # the longest extent, with the heaviest weight, almost fills 31 bits
    spare = 2**31 - 1 - most * 128 * 255
    verify(linear(most, spare))
    verify(linear(most, -spare))
    for bias in (spare + 1, -spare - 1):
        with pytest.raises(GraphError, match="can leave 31 bits"):
            verify(linear(most, bias))


def test_the_accumulator_bound_reads_the_code_book() -> None:
    levels = uniform_levels(8).copy()
    levels[128] = 1
    verify(linear(65536, 0, levels))
    with pytest.raises(GraphError, match="can leave 31 bits"):
        verify(linear(65536, 2**31 - 1 - 65536 * 255 + 1, levels))


def test_float_outputs_stay_finite() -> None:
    verify(linear(1, 0, scale=2.0**100))
    with pytest.raises(GraphError, match="far outside"):
        verify(linear(1, 0, scale=2.0**127))


def test_pooled_sums_stay_within_31_bits() -> None:
    def pool(height: int, width: int) -> Graph:
        q = QParams(1.0, 0)
        values = [
            Value("image", (height, width, 1)),
            Value("x", (height, width, 1), q),
            Value("y", (1, 1, 1), q),
        ]
        nodes = (Node("q", "quantize", ("image",), "x"), Node("pool", "global_avg_pool", ("x",), "y"))
        return Graph("image", ("y",), {v.name: v for v in values}, nodes)

    assert 2902 * 2901 * 255 < 2**31 <= 2902 * 2902 * 255
    verify(pool(2902, 2901))
    with pytest.raises(GraphError, match="sum can leave 31 bits"):
        verify(pool(2902, 2902))


def test_the_gate_bound_is_exact() -> None:
    """255 * s_x * s_g / s_y * 256 * channel_scale must stay below 32767 for every channel."""

    def gate(y_scale: float, *channel_scale: float) -> Graph:
        x, g, y = QParams(1.0, 0), QParams(1.0, 0), QParams(y_scale, 0)
        shape = (1, 1, len(channel_scale) or 1)
        values = [Value("image", shape), Value("x", shape, x), Value("g", shape, g), Value("y", shape, y)]
        params = {"channel_scale": np.array(channel_scale, f32)} if channel_scale else {}
        nodes = (
            Node("q", "quantize", ("image",), "x"),
            Node("p", "quantize", ("image",), "g"),
            Node("mul", "mul", ("x", "g"), "y", {}, params),
        )
        return Graph("image", ("y",), {v.name: v for v in values}, nodes)

    verify(gate(2.0))  # 255 * 256 / 2 = 32640
    with pytest.raises(GraphError, match="16 bits"):
        verify(gate(float(f32(1.99))))
    verify(gate(4.0, 0.25, 2.0, 1.0))
    with pytest.raises(GraphError, match="16 bits"):
        verify(gate(4.0, 0.25, 2.01, 1.0))
