"""Every rule of the verifier about types, names, structure and shapes has a graph that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from subbyte.errors import GraphError
from subbyte.ir import Graph, Node, Value, verify
from subbyte.quant import QParams
from tests.fuzz.graphs import seeds
from tests.unit.ir.breakage import attr, coded, insert, node, of, param, plain, value, without

Break = Callable[[Graph], Graph]
f32 = np.float32


def first(op: str, edit: Callable[..., Graph], /, **changes: Any) -> Break:
    """The change of one field of the first node of an op."""
    return lambda graph: edit(graph, of(graph, op), **changes)


def changed(graph: Graph, **fields: Any) -> Graph:
    """The graph with fields replaced, also by what they may not be."""
    return replace(graph, **fields)


def outputs(*names: Any) -> Break:
    return lambda graph: replace(graph, outputs=names)


def swap_kind(graph: Graph, op: str, name: str) -> Graph:
    """The first node of an op with an attribute turned into a parameter, or the reverse."""
    which = of(graph, op)
    attrs, params = dict(which.attrs), dict(which.params)
    if name in attrs:
        params[name] = np.array(attrs.pop(name))
    else:
        attrs[name] = params.pop(name)
    return node(graph, which, attrs=attrs, params=params)


NEEDS = r"needs a \(H, W, C\) input"

CODED: list[tuple[str, Break, str]] = [
    # types and names
    ("outputs list", lambda g: changed(g, outputs=list(g.outputs)), "must be tuples"),
    ("nodes list", lambda g: changed(g, nodes=list(g.nodes)), "must be tuples"),
    ("values list", lambda g: changed(g, values=list(g.values)), "must be a mapping"),
    ("node dict", lambda g: changed(g, nodes=({}, *g.nodes)), "must be Nodes"),
    ("inputs list", first("add", node, inputs=["v0", "v1"]), "tuple of input names"),
    ("op number", first("add", node, op=3), "op must be a string"),
    ("attrs list", first("add", node, attrs=[]), "attrs a mapping"),
    ("params none", first("add", node, params=None), "params must be a mapping"),
    ("name number", first("add", node, name=3), "printable characters"),
    ("name empty", first("add", node, name=""), "printable characters"),
    ("name long", first("add", node, name="a" * 257), "printable characters"),
    ("name newline", first("add", node, name="a\nb"), "printable characters"),
    ("name escape", first("add", node, output="\x1b[2J"), "printable characters"),
    ("name surrogate", first("add", node, output="\ud800"), "printable characters"),
    ("input unhashable", lambda g: changed(g, input=[]), "printable characters"),
    ("output unhashable", outputs({}), "printable characters"),
    ("value name", lambda g: value(g, "v3", name="v4"), "another name than its own"),
    ("value type", lambda g: changed(g, values={**g.values, "v3": (8, 8, 4)}), "another name than its own"),
    ("node count", lambda g: replace(g, nodes=g.nodes[:1] * 10_001), "at most 10000"),
    # values
    ("shape list", lambda g: value(g, "v1", shape=[8, 8, 4]), "of ints"),
    ("shape float", lambda g: value(g, "v1", shape=(8, 8, 4.0)), "of ints"),
    ("shape bool", lambda g: value(g, "v1", shape=(8, 8, True)), "of ints"),
    ("shape none", lambda g: value(g, "v1", shape=None), "of ints"),
    ("shape two", lambda g: value(g, "v1", shape=(8, 8)), "of ints"),
    ("shape zero", lambda g: value(g, "image", shape=(8, 0, 4)), "in 1..65536"),
    ("shape wide", lambda g: value(g, "image", shape=(1, 65537, 1)), "in 1..65536"),
    ("shape big", lambda g: value(g, "image", shape=(65536, 4097, 1)), "more than 268435456 elements"),
    ("grid type", lambda g: value(g, "v1", q=(1.0, 0, 8)), "must be QParams"),
    ("value missing", lambda g: replace(g, values={"image": g.values["image"]}), "no value"),
    ("input missing", lambda g: replace(g, input="other"), "no value 'other'"),
    # structure
    ("input coded", lambda g: value(g, "image", q=QParams(1.0, 0)), "input must be float32"),
    ("same name", first("add", node, name="quantize0"), "two nodes are called"),
    ("assigned twice", first("add", node, output="v1"), "assigned twice"),
    ("assigns input", first("add", node, output="image"), "assigned twice"),
    ("forward", first("add", node, inputs=("v9", "v0")), "no earlier node makes"),
    ("cycle", first("add", node, inputs=("v5", "v0")), "no earlier node makes"),
    ("no outputs", outputs(), "at least one output"),
    ("output twice", outputs("v1", "v1"), "each named once"),
    ("output unmade", outputs("other"), "made by no node"),
    ("output is input", outputs("image"), "made by no node"),
    (
        "idle value",
        lambda g: replace(g, values={**g.values, "idle": Value("idle", (1,))}),
        r"without a producer: \['idle'\]",
    ),
    # ops, attributes, parameters
    ("unknown op", first("add", node, op="wish"), "unknown op 'wish'"),
    ("too many inputs", first("add", node, inputs=("v0", "v0", "v0")), "has 3 inputs, needs 2..2"),
    ("too few inputs", first("add", node, inputs=("v0",)), "has 1 inputs, needs 2..2"),
    ("attr missing", lambda g: without(g, of(g, "conv2d"), "stride"), r"missing \['stride'\]"),
    ("attr extra", first("add", attr, groups=1), r"unexpected \['groups'\]"),
    ("attr key", first("add", node, attrs={3: 4}), r"unexpected \['3'\]"),
    ("param missing", lambda g: without(g, of(g, "conv2d"), "bias"), r"missing \['bias'\]"),
    ("param extra", first("add", param, mean=np.zeros(1, f32)), r"unexpected \['mean'\]"),
    ("param list", first("conv2d", param, bias=[0, 0, 0, 0]), "numpy array or a QTensor, got list"),
    ("attr as param", lambda g: swap_kind(g, "conv2d", "groups"), "groups must be an attribute"),
    ("param as attr", lambda g: swap_kind(g, "conv2d", "bias"), "bias must be a parameter"),
    # shapes
    ("output shape", lambda g: value(g, "v1", shape=(8, 8, 5)), "but its output says"),
    (
        "flat conv",
        lambda g: insert(g, of(g, "conv2d").with_(name="c", inputs=("v12",), output="c"), (8, 8, 4)),
        NEEDS,
    ),
    ("groups misfit", first("conv2d", attr, groups=2), "does not fit input"),
    ("pad too large", first("conv2d", attr, pad=(3, 0, 0, 0)), "pad must be smaller"),
    ("add shapes", lambda g: node(g, of(g, "add"), inputs=("v3", "v0")), "operands differ in shape"),
    ("mul shapes", lambda g: node(g, of(g, "mul"), inputs=("v3", "v0")), "needs .* times a gate"),
    ("concat shapes", lambda g: node(g, of(g, "concat"), inputs=("v7", "v6")), "do not line up"),
    ("kernel too large", first("max_pool2d", attr, kernel=(16, 3)), "larger than its padded input"),
    ("linear misfit", lambda g: node(g, of(g, "linear"), inputs=("v10",)), "does not fit input"),
]


def test_the_graphs_themselves_pass() -> None:
    for graph in (coded(), plain(), *(artifact.graph for artifact in seeds().values())):
        assert verify(graph) is graph


@pytest.mark.parametrize(("change", "message"), [pytest.param(b, m, id=i) for i, b, m in CODED])
def test_refuses(change: Break, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        verify(change(coded()))


@pytest.mark.parametrize(
    ("shape", "groups", "message"),
    [((0, 3, 3, 3), 1, "empty weight"), ((5, 3, 3, 1), 3, "multiple of the groups")],
)
def test_weights_that_fit_nothing(shape: tuple[int, ...], groups: int, message: str) -> None:
    graph = plain()
    conv = of(graph, "conv2d")
    attrs = {**conv.attrs, "groups": groups}
    params = {"weight": np.zeros(shape, f32), "bias": np.zeros(shape[0], f32)}
    with pytest.raises(GraphError, match=message):
        verify(node(graph, conv, attrs=attrs, params=params))


def test_vectors_cannot_be_pooled() -> None:
    graph = coded()
    with pytest.raises(GraphError, match=NEEDS):
        verify(insert(graph, Node("n", "global_avg_pool", ("v12",), "n"), (1, 1, 5), QParams(1.0, 0)))


def test_a_residual_needs_the_output_shape() -> None:
    graph = coded()
    joined = of(graph, "concat").inputs[0]
    late = Node(
        "late", "conv2d", ("v0", joined), "late", of(graph, "conv2d", 1).attrs, of(graph, "conv2d", 1).params
    )
    with pytest.raises(GraphError, match="residual has another shape"):
        verify(insert(graph, late, (8, 8, 4), QParams(1.0, 0)))


JUNK: list[object] = [
    None,
    True,
    False,
    0,
    -1,
    2**70,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "1",
    b"1",
    (),
    [],
    {},
    (1,),
    (1, 2),
]
JUNK += [
    (0, 0),
    (-1, 1),
    (1.0, 1.0),
    (True, True),
    (1, None),
    [1, 1, 1, 1],
    (1, 2, 3, 4, 5),
    ("1", "1"),
    np.int64(1),
]
JUNK += [
    np.array([None]),
    np.array(["a"]),
    np.float32(1),
    np.ones(2),
    np.ones((2, 2)),
    object(),
    [[1], [1]],
    ((1, 1), 1),
    "silu",
    300,
]


@pytest.mark.parametrize("name", ["mixed", "narrow", "quantized2", "quantized4", "quantized8", "real"])
def test_junk_in_any_field_is_a_graph_error(name: str) -> None:
    """Never a TypeError, whatever an attribute, parameter or other field of a node is."""
    graph, refused = seeds()[name].graph, 0
    for which in graph.nodes:
        for junk in JUNK:
            mutants = [attr(graph, which, **{key: junk}) for key in which.attrs]
            mutants += [param(graph, which, **{key: junk}) for key in which.params]
            mutants += [
                node(graph, which, **{key: junk})
                for key in ("name", "op", "inputs", "output", "attrs", "params")
            ]
            mutants += [value(graph, which.output, **{key: junk}) for key in ("name", "shape", "q")]
            for mutant in mutants:
                try:
                    verify(mutant)
                except GraphError:
                    refused += 1
    assert refused > len(graph.nodes) * len(JUNK) * 5


WRONG_ATTRS: list[tuple[str, str, Any]] = [
    ("conv2d", "stride", (0, 1)),
    ("conv2d", "stride", (1,)),
    ("conv2d", "stride", 1),
    ("conv2d", "stride", (1.0, 1.0)),
    ("conv2d", "stride", (True, True)),
    ("conv2d", "stride", (1 << 17, 1)),
    ("conv2d", "pad", (0, 0, 0)),
    ("conv2d", "pad", (-1, 0, 0, 0)),
    ("conv2d", "pad", (0, 0, 0, 256)),
    ("conv2d", "groups", 0),
    ("conv2d", "groups", 1.0),
    ("conv2d", "groups", "1"),
    ("conv2d", "groups", True),
    ("conv2d", "act", "selu"),
    ("conv2d", "act", None),
    ("conv2d", "act", ["none"]),
    ("conv2d", "pre_scale", 1),
    ("conv2d", "pre_scale", float("nan")),
    ("conv2d", "pre_scale", -1.0),
    ("conv2d", "pre_zero", 1.0),
    ("conv2d", "pre_zero", 256),
    ("conv2d", "pre_zero", -1),
    ("max_pool2d", "kernel", (3, 257)),
    ("max_pool2d", "kernel", (3, 0)),
    ("max_pool2d", "kernel", (3,)),
]


@pytest.mark.parametrize(("op", "name", "junk"), WRONG_ATTRS)
def test_attributes_are_typed(op: str, name: str, junk: Any) -> None:
    graph = coded()
    with pytest.raises(GraphError, match=f"{name} must be"):
        verify(attr(graph, of(graph, op), **{name: junk}))


@pytest.mark.parametrize("eps", [0.0, -1e-3, 1, float("inf"), None])
def test_batch_norm_eps(eps: Any) -> None:
    graph = plain()
    with pytest.raises(GraphError, match="eps must be a positive float"):
        verify(attr(graph, of(graph, "batch_norm"), eps=eps))


def test_weight_kernels_are_bounded() -> None:
    weight, bias = np.zeros((1, 1, 257, 3), f32), np.zeros(1, f32)
    attrs = {"stride": (1, 1), "pad": (0, 0, 0, 0), "groups": 1, "act": "none"}
    conv = Node("conv", "conv2d", ("image",), "y", attrs, {"weight": weight, "bias": bias})
    values = {"image": Value("image", (8, 300, 3)), "y": Value("y", (8, 44, 1))}
    with pytest.raises(GraphError, match="more than 256 positions"):
        verify(Graph("image", ("y",), values, (conv,)))
