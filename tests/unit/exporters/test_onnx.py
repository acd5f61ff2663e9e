"""The exported network computes what the reference computes, node by node, from equal inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pytest

from subbyte.errors import InputError
from subbyte.execute.reference.bounds import float_error_bound
from subbyte.execute.reference.executor import run_node
from subbyte.exporters.onnx import to_nchw, to_nhwc, to_onnx
from subbyte.ir import ACTIVATIONS, OPS, Graph, Node, Value, verify
from subbyte.ir.activations import parse_activation
from subbyte.quant import QParams, QTensor
from tests.fuzz.builder import PARAMETRIC

pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

UNIT = 2.0**-24
Option = TypeVar("Option")
LIPSCHITZ = {"hard_swish": 1.5}  # every other activation: 1.13 (docs/spec/numerics.md)


class Builder:
    """Grows a random float graph."""

    def __init__(self, seed: int, shape: tuple[int, int, int] = (9, 7, 4)) -> None:
        self.rng = np.random.default_rng(seed)
        self.values = {"input": Value("input", shape)}
        self.nodes: list[Node] = []
        self.last = "input"

    def add(
        self,
        op: str,
        inputs: tuple[str, ...] | None = None,
        attrs: dict[str, Any] | None = None,
        params: dict[str, np.ndarray] | None = None,
    ) -> str:
        name = f"n{len(self.nodes)}"
        node = Node(name, op, inputs or (self.last,), f"{name}.out", attrs or {}, params or {})
        shape = OPS[op].shape(node, [self.values[i].shape for i in node.inputs])
        self.values[node.output] = Value(node.output, shape)
        self.nodes.append(node)
        self.last = node.output
        return node.output

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.normal(size=shape).astype(np.float32)

    def conv(
        self,
        x: str,
        out: int,
        kernel: tuple[int, int] = (3, 3),
        stride: tuple[int, int] = (1, 1),
        pad: tuple[int, int, int, int] | None = None,
        groups: int = 1,
        act: str = "none",
        residual: str | None = None,
    ) -> str:
        kh, kw = kernel
        pad = (kh // 2, kh // 2, kw // 2, kw // 2) if pad is None else pad
        channels = self.values[x].shape[-1]
        attrs = {"stride": stride, "pad": pad, "groups": groups, "act": act}
        weight = self.normal(out, kh, kw, channels // groups) / np.float32(
            np.sqrt(kh * kw * channels / groups)
        )
        inputs = (x,) if residual is None else (x, residual)
        return self.add("conv2d", inputs, attrs, {"weight": weight, "bias": self.normal(out)})

    def linear(self, out: int, act: str = "none") -> str:
        (size,) = self.values[self.last].shape
        params = {"weight": self.normal(out, size), "bias": self.normal(out)}
        return self.add("linear", None, {"act": act}, params)

    def graph(self) -> Graph:
        return verify(Graph("input", (self.last,), self.values, tuple(self.nodes)))


def random_graph(seed: int) -> Graph:
    """Convolutions of every kind, squeeze-and-excitation, pools, residuals, a classifier."""
    b = Builder(seed)

    def pick(*options: Option) -> Option:
        return options[b.rng.integers(len(options))]

    for _ in range(4):
        act, channels = pick(*ACTIVATIONS), b.values[b.last].shape[-1]
        kind = b.rng.integers(7)
        if kind == 0:
            kernel = pick((1, 1), (3, 3), (5, 3))
            top, bottom, left, right = (int(b.rng.integers(k)) for k in np.repeat(kernel, 2))
            pad = top, bottom, left, right
            b.conv(b.last, pick(4, 6), kernel, pick((1, 1), (2, 1), (2, 2)), pad, act=act)
        elif kind == 1:
            b.conv(b.last, channels, groups=channels, act=act)
        elif kind == 2:
            b.conv(b.last, channels, (1, 1), act=act, residual=b.last)
        elif kind == 3:
            x = b.last
            b.add("global_avg_pool")
            b.conv(b.last, 2, (1, 1), act="silu")
            scale = (
                {"channel_scale": np.abs(b.normal(channels)) + np.float32(0.1)} if pick(True, False) else None
            )
            b.add("mul", (x, b.conv(b.last, channels, (1, 1), act="sigmoid")), None, scale)
        elif kind == 4:
            bn = {"weight": b.normal(channels), "bias": b.normal(channels), "mean": b.normal(channels)}
            b.add("batch_norm", None, {"eps": 1e-3}, {**bn, "var": b.normal(channels) ** 2})
            b.add("activation", None, {"act": act})
        elif kind == 5:
            window = {"kernel": (3, 2), "stride": (1, 1), "pad": (1, 1, 0, 1)}
            b.add("concat", (b.last, b.add("max_pool2d", None, window)))
        else:
            b.add("add", (b.last, b.conv(b.last, channels, groups=2, act=act)))
    if b.rng.integers(2):
        b.add("global_avg_pool")
    b.add("flatten")
    b.linear(5, pick(*ACTIVATIONS))
    return b.graph()


def run_onnx(graph: Graph, x: np.ndarray) -> dict[str, np.ndarray]:
    """Every value of the graph, NHWC, as ONNX Runtime computes it."""
    everything = replace(graph, outputs=tuple(node.output for node in graph.nodes))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    model = to_onnx(everything, batch=None).SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    arrays = session.run(None, {graph.input: to_nchw(x)})
    values = {n: to_nhwc(y) for n, y in zip(everything.outputs, arrays, strict=True)}
    return {graph.input: x, **values}


def float_params(node: Node) -> dict[str, np.ndarray]:
    assert not any(isinstance(param, QTensor) for param in node.params.values())
    return {role: param for role, param in node.params.items() if isinstance(param, np.ndarray)}


def magnitude(graph: Graph, node: Node, arrays: list[np.ndarray]) -> np.ndarray:
    """Σ|x·w| + |bias| of a conv2d or linear."""
    attrs, params = {**node.attrs, "act": "none"}, {r: np.abs(p) for r, p in float_params(node).items()}
    return run_node(
        graph, node.with_(attrs=attrs, params=params, inputs=node.inputs[:1]), [np.abs(arrays[0])]
    )


def gamma(count: int) -> float:
    return count * UNIT / (1 - count * UNIT)


def evaluation_error(act: str, before: np.ndarray | float, after: np.ndarray) -> np.ndarray:
    """What evaluating an activation may add: 4 ulp of the result plus 2**-23 |x|.

    ONNX Runtime computes elu's e^x - 1 as it is written, so that the rounding of e^x, an ulp of 1, stays.
    """
    row, parameters = parse_activation(act)
    cancelled = abs(parameters[0] * parameters[1]) * 2.0**-23 if row.name == "elu" else 0.0
    return 4 * np.spacing(np.abs(after)) + 2.0**-23 * np.abs(before) + cancelled


def tolerance(graph: Graph, node: Node, arrays: list[np.ndarray], expected: np.ndarray) -> np.ndarray | float:
    """The bound of docs/spec/numerics.md ("float32 and float16 layers") for one node."""
    half_ulp = np.spacing(np.abs(expected)) / 2
    if node.op in ("conv2d", "linear"):
        terms = magnitude(graph, node, arrays)
        products = int(np.prod(node.params["weight"].shape[1:]))
        act, residual = node.attrs["act"], arrays[1] if len(arrays) == 2 else np.zeros_like(expected)
        bound = LIPSCHITZ.get(act, 1.13) * gamma(products + 2) * terms
        if act != "none":
            bound += evaluation_error(act, terms, np.abs(expected) + np.abs(residual))
        if len(arrays) == 2:
            bound += UNIT * (np.abs(expected) + bound)  # the rounding of the sum
        return bound + half_ulp
    if node.op == "global_avg_pool":
        positions = arrays[0].shape[1] * arrays[0].shape[2]
        return gamma(positions + 1) * np.abs(arrays[0]).mean(axis=(1, 2), keepdims=True) + half_ulp
    if node.op == "batch_norm":
        # scale = w / sqrt(var + eps): 3 roundings; then x·scale + (bias - mean·scale): 1 + 3 more
        p = {role: np.abs(param.astype(np.float64)) for role, param in float_params(node).items()}
        scale = p["weight"] / np.sqrt(p["var"] + node.attrs["eps"])
        return gamma(7) * ((np.abs(arrays[0]) + p["mean"]) * scale + p["bias"]) + half_ulp
    if node.op == "activation":
        return evaluation_error(node.attrs["act"], arrays[0], expected)
    return 0.0  # mul, add, max_pool2d, concat, flatten: one correct rounding, or none


@pytest.mark.parametrize("seed", range(24))
def test_every_node_agrees_with_the_reference(seed: int) -> None:
    graph = random_graph(seed)
    x = np.random.default_rng(seed).normal(size=(2, 9, 7, 4)).astype(np.float32)
    values = run_onnx(graph, x)
    for node in graph.nodes:
        arrays = [values[name] for name in node.inputs]
        expected = run_node(graph, node, arrays)
        actual = values[node.output]
        assert actual.shape == expected.shape, node
        excess = np.abs(actual - expected) - tolerance(graph, node, arrays, expected)
        assert excess.max() <= 0, f"seed {seed}, {node.op} {dict(node.attrs)}: {excess.max()} too far"


@pytest.mark.parametrize("act", [*ACTIVATIONS, *PARAMETRIC])
def test_activations(act: str) -> None:
    b = Builder(0, (1, 1, 401))
    b.add("activation", None, {"act": act})
    x = np.linspace(-20, 20, 401, dtype=np.float32).reshape(1, 1, 1, 401)
    graph = b.graph()
    expected = run_node(graph, graph.nodes[0], [x])
    assert (
        np.abs(run_onnx(graph, x)[graph.outputs[0]] - expected) <= evaluation_error(act, x, expected)
    ).all()


def test_flatten_of_a_map_is_channels_last() -> None:
    b = Builder(0, (2, 3, 4))
    b.add("flatten")
    x = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    assert np.array_equal(run_onnx(b.graph(), x)[b.last], x.reshape(1, 24))


def test_float16_weights_are_widened() -> None:
    b = Builder(1)
    b.conv("input", 3)
    node = b.nodes[0]
    params = float_params(node)
    half = {"weight": params["weight"].astype(np.float16), "bias": params["bias"]}
    b.nodes[0] = node.with_(params=half)
    model = to_onnx(b.graph())
    assert {t.data_type for t in model.graph.initializer} == {1}  # FLOAT


def test_batch_is_fixed_or_open() -> None:
    b = Builder(2)
    b.conv("input", 3)
    fixed = to_onnx(b.graph(), batch=5).graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in fixed] == [5, 4, 9, 7]
    assert to_onnx(b.graph(), batch=None).graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_names_made_for_onnx_do_not_collide_with_the_graphs() -> None:
    b = Builder(3)
    b.conv("input", 4, act="silu", residual="input")
    conv = b.nodes[0]
    clashing = "n0.weight", "n0.bias", "n0.out/0", "n0.out/gate"
    previous = conv.output
    for name in clashing:
        b.values[name] = Value(name, (9, 7, 4))
        b.nodes.append(Node(f"act {name}", "activation", (previous,), name, {"act": "relu"}))
        previous = name
    b.last = previous
    x = b.normal(1, 9, 7, 4)
    values = run_onnx(b.graph(), x)
    assert np.array_equal(values[previous], np.maximum(values[conv.output], 0))


def test_a_quantized_graph_is_refused() -> None:
    b = Builder(4)
    b.add("quantize")
    b.values[b.last] = replace(b.values[b.last], q=QParams(0.5, 3))
    with pytest.raises(InputError, match="dequantize_graph"):
        to_onnx(b.graph())


#: Operations of one map, or of two, beside those of random graphs.
ALONE: dict[str, tuple[str, dict[str, Any]]] = {
    "slice": ("slice", {"begin": (1, 0, 1), "end": (9, 6, 4), "step": (2, 1, 2)}),
    "rearrange": ("rearrange", {"dims": (9, 7, 2, 2), "perm": (1, 2, 0, 3), "size": (14, 9, 2)}),
    "rearrange to a vector": ("rearrange", {"dims": (63, 4), "perm": (1, 0), "size": (252,)}),
    "pad": ("pad", {"pad": (1, 0, 2, 3), "mode": "zero"}),
    "pad, edge": ("pad", {"pad": (1, 0, 2, 3), "mode": "edge"}),
    "pad, reflect": ("pad", {"pad": (1, 0, 2, 3), "mode": "reflect"}),
    "average": ("avg_pool2d", {"kernel": (3, 2), "stride": (2, 1), "pad": (1, 1, 1, 0), "count_pad": 0}),
    "average that counts": (
        "avg_pool2d", {"kernel": (3, 2), "stride": (2, 1), "pad": (1, 1, 1, 0), "count_pad": 1},
    ),
    **{
        f"{op} {mode} to {size}": (op, {"size": size, "mode": mode})
        for op in ("resize_nearest", "resize_bilinear")
        for mode in ("asymmetric", "half_pixel", "align_corners")
        for size in ((18, 14), (4, 9))
    },
    "multiply": ("multiply", {}),
    "subtract": ("subtract", {}),
    "divide": ("divide", {}),
    "matmul": ("matmul", {}),
    "softmax": ("softmax", {}),
    "layer norm": ("layer_norm", {"eps": 1e-3}),
    "group norm": ("group_norm", {"eps": 1e-3, "groups": 1}),
    "prelu": ("prelu", {}),
}  # fmt: skip


def in_float32(graph: Graph, node: Node, arrays: list[np.ndarray], expected: np.ndarray) -> np.ndarray:
    """How far ONNX Runtime, which computes in float32, may be from the reference, from equal inputs.

    A normalization: sums of N numbers, and the variance as mean(x^2) - mean^2, which moves its root s by the
    rounding of both divided by s. A softmax: rounded differences, powers within 4 ulp, a sum of N. An
    interpolation: coordinates of up to 18 in four roundings, weights off by 4 * 18 roundings of 1.
    """
    x = np.abs(arrays[0].astype(np.float64))
    errors = [np.zeros(a.shape) for a in arrays]
    more: np.ndarray | float = 0.0
    if node.op in ("layer_norm", "group_norm"):
        axes: tuple[int, ...] = (3,) if node.op == "layer_norm" else (1, 2, 3)
        spread = arrays[0].astype(np.float64).var(axes, keepdims=True) ** 0.5
        each = 63 * 4 if node.op == "group_norm" else 4
        squares = 2 * (x * x).max(axes, keepdims=True) / spread
        errors[0] = gamma(2 * each + 16) * (x + x.max(axes, keepdims=True) + squares)
        bias = np.abs(float_params(node)["bias"])
        more = gamma(8) * (np.abs(expected) + 2 * bias)
    if node.op == "softmax":
        errors[0] = gamma(1) * 2 * x.max(-1, keepdims=True) + np.zeros_like(x)
        more = gamma(x.shape[-1] + 16) * expected
    if node.op == "matmul":
        more = gamma(x.shape[-1] + 2) * (x @ np.abs(arrays[1]).swapaxes(-1, -2))
    if node.op == "resize_bilinear":
        more = 4 * gamma(4 * 18) * x.max()
    return float_error_bound(graph, node, arrays, errors) + more


def check_nodes(graph: Graph, seed: int) -> None:
    """The last node from equal inputs."""
    x = np.random.default_rng(seed).normal(size=(2, 9, 7, 4)).astype(np.float32)
    values, node = run_onnx(graph, x), graph.nodes[-1]
    arrays = [values[name] for name in node.inputs]
    expected = run_node(graph, node, arrays)
    assert values[node.output].shape == expected.shape
    assert np.ptp(expected) > 0
    assert (np.abs(values[node.output] - expected) <= in_float32(graph, node, arrays, expected)).all()


@pytest.mark.parametrize("name", ALONE)
def test_an_operation_alone(name: str) -> None:
    op, attrs = ALONE[name]
    b = Builder(5)
    x = b.conv("input", 4)
    y = b.conv("input", 4)
    roles = {"prelu": ("slope",)}.get(op, ("weight", "bias") if op.endswith("norm") else ())
    params = {role: b.normal(4) for role in roles}
    inputs = (x, y) if OPS[op].arity == (2, 2) else (x,)
    b.add(op, inputs, attrs, params)
    check_nodes(b.graph(), 3)


def test_expand() -> None:
    b = Builder(6)
    b.add("global_avg_pool")
    b.add("expand", None, {"size": (2, 3, 4)})
    check_nodes(b.graph(), 3)
