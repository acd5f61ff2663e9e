"""The torch executor gives the reference's integers on every quantized op, and useful gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subbyte.errors import InputError
from subbyte.execute import reference
from subbyte.execute.reference.bounds import float_error_bound
from subbyte.execute.torch import executor as torch_executor
from subbyte.execute.torch import ops as torch_ops
from subbyte.execute.torch.straight_through import real as function
from subbyte.ir import ACTIVATIONS, CLAMP_ACTIVATIONS, Graph, Node, Value, verify
from subbyte.quant import QParams, QTensor, activation_table, weight_format
from subbyte.quant.format import INT8
from tests.fuzz.builder import PARAMETRIC

ACTS = (*ACTIVATIONS, *PARAMETRIC)
torch.manual_seed(0)


class Builder:
    """Grows a random quantized graph whose codes use their whole range."""

    def __init__(self, seed: int, shape: tuple[int, ...]) -> None:
        print(f"seed {seed}")
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Node] = []
        self.values = {"image": Value("image", shape)}
        self.last = self.emit("quantize", ("image",), shape, self.grid())

    def grid(self, bits: int | None = None) -> QParams:
        bits = bits or int(self.rng.choice([2, 3, 4, 8], p=[0.1, 0.1, 0.3, 0.5]))
        scale = float(np.float32(self.rng.uniform(0.02, 0.2) * 255 / ((1 << bits) - 1)))
        return QParams(scale, int(self.rng.integers(0, 1 << bits)), bits)

    def emit(self, op, inputs, shape, q, attrs=None, params=None) -> str:  # type: ignore[no-untyped-def]
        name = f"{op}{len(self.nodes)}"
        self.values[name] = Value(name, tuple(shape), q)
        self.nodes.append(Node(name, op, tuple(inputs), name, attrs or {}, params or {}))
        return name

    def table(self, act: str, pre: QParams, y: QParams) -> np.ndarray:
        return activation_table(reference.activation_function(act), pre, y)

    def weights(self, shape: tuple[int, ...], x: QParams, y: QParams | None) -> dict[str, object]:
        bits = int(self.rng.choice([2, 3, 4, 8]))
        half = 1 << (bits - 1)
        values = self.rng.integers(-half, half, shape)
        squares = (values.astype(float) ** 2).sum(axis=tuple(range(1, len(shape))))
        spread = max(float(np.sqrt(squares.mean())), 1.0)
        unit = (y.scale if y else 1.0) * 64 / (spread * (x.qmax + 1) / 3 * x.scale)
        scale = (unit * self.rng.uniform(0.5, 1.5, shape[0])).astype(np.float32)
        bias = self.rng.integers(-40, 40, shape[0]) * spread
        levels = None
        weight = QTensor.from_values(values, scale, weight_format(bits))
        if bits < 8 and self.rng.random() < 0.5:  # a code book
            levels = self.rng.integers(-128, 128, 1 << bits).astype(np.int8)
            weight = QTensor(
                weight.codes, (scale * half / 128).astype(np.float32), weight.format.with_book(levels), levels
            )
        return {"weight": weight, "bias": bias.astype(np.int32)}

    def conv(  # type: ignore[no-untyped-def]
        self,
        x,
        outputs,
        kernel,
        stride=(1, 1),
        pad=(0, 0, 0, 0),
        groups=1,
        act="none",
        residual=None,
        q="new",
    ):
        source = self.values[x]
        y = self.grid() if q == "new" else q
        pre = self.grid(8) if act not in CLAMP_ACTIVATIONS else None
        h = (source.shape[0] + pad[0] + pad[1] - kernel[0]) // stride[0] + 1
        w = (source.shape[1] + pad[2] + pad[3] - kernel[1]) // stride[1] + 1
        params = self.weights((outputs, *kernel, source.shape[2] // groups), source.q, pre or y)
        attrs = {"stride": list(stride), "pad": list(pad), "groups": groups, "act": act}
        if pre:
            attrs |= {"pre_scale": pre.scale, "pre_zero": pre.zero_point}
            params["table"] = self.table(act, pre, y)
        inputs = (x,) if residual is None else (x, residual)
        return self.emit("conv2d", inputs, (h, w, outputs), y, attrs, params)

    def linear(self, x: str, outputs: int, act: str, q: QParams | None) -> str:
        source = self.values[x]
        pre = self.grid(8) if act not in CLAMP_ACTIVATIONS else None
        params = self.weights((outputs, source.shape[0]), source.q, pre or q)
        attrs: dict[str, object] = {"act": act}
        if pre:
            attrs |= {"pre_scale": pre.scale, "pre_zero": pre.zero_point}
            params["table"] = self.table(act, pre, q)
        return self.emit("linear", (x,), (outputs,), q, attrs, params)

    def activation(self, x: str, act: str) -> str:
        source, y = self.values[x], self.grid()
        return self.emit(
            "activation", (x,), source.shape, y, {"act": act}, {"table": self.table(act, source.q, y)}
        )

    def graph(self, *outputs: str) -> Graph:
        return verify(Graph("image", outputs, self.values, tuple(self.nodes)))

    def images(self, n: int) -> np.ndarray:
        return (self.rng.normal(size=(n, *self.values["image"].shape)) * 4).astype(np.float32)


def assert_equal(graph: Graph, images: np.ndarray) -> None:
    expected = reference.run(graph, images, keep=True)
    actual = torch_executor.run(graph, images, keep=True)
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype
        assert np.array_equal(actual[name], array), name


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("spread", [1.0, 40.0])
def test_float_activations_are_within_their_bound(act: str, spread: float) -> None:
    values = {name: Value(name, (7, 9, 11)) for name in ("image", "y")}
    node = Node("y", "activation", ("image",), "y", {"act": act})
    graph = verify(Graph("image", ("y",), values, (node,)))
    x = (np.random.default_rng(3).normal(size=(2, 7, 9, 11)) * spread).astype(np.float32)
    error = np.abs(torch_executor.run(graph, x)["y"].astype(np.float64) - reference.run(graph, x)["y"])
    assert (error <= float_error_bound(graph, node, [x])).all()


@pytest.mark.parametrize("act", ACTS)
def test_slopes_of_activations(act: str) -> None:
    """The gradient that training sees is the quotient of differences of the definition."""
    x = torch.linspace(-4.03, 4.05, 50, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(function(act)(x).sum(), x)
    h, at = 2.0**-20, x.detach().numpy()
    f = reference.activation_function(act)
    numeric = (f(at + h) - f(at - h)) / (2 * h)
    # |f| <= 15: rounding by 2^-52 · 15 / h < 1e-8; the third derivatives are below 64, h^2 / 6 of that 1e-11
    assert np.abs(slope.numpy() - numeric).max() <= 1e-8


@pytest.mark.parametrize("seed", range(24))
def test_convolutions_equal_the_reference(seed: int) -> None:
    b = Builder(seed, (int(seed % 7 + 1), 5, 3))
    channels = int(b.rng.integers(1, 19))
    x = b.conv(b.last, channels, (1, 1), act=b.rng.choice(ACTS))
    for _ in range(4):
        groups = channels if b.rng.random() < 0.4 else 1
        outputs = channels if groups > 1 or b.rng.random() < 0.3 else int(b.rng.integers(1, 40))
        kernel = tuple(int(k) for k in b.rng.choice([1, 2, 3, 5], 2))
        pad = tuple(int(b.rng.integers(0, k)) for k in (kernel[0], kernel[0], kernel[1], kernel[1]))
        shape = b.values[x].shape
        if shape[0] + pad[0] + pad[1] < kernel[0] or shape[1] + pad[2] + pad[3] < kernel[1]:
            kernel, pad = (1, 1), (0, 0, 0, 0)
        stride = tuple(int(s) for s in b.rng.integers(1, 3, 2))
        x = b.conv(x, outputs, kernel, stride, pad, groups, b.rng.choice(ACTS))
        channels = outputs
    assert_equal(b.graph(x), b.images(2))


@pytest.mark.parametrize("act", ACTS)
def test_every_activation_equals_the_reference(act: str) -> None:
    b = Builder(100, (4, 3, 5))
    x = b.conv(b.last, 7, (3, 3), pad=(1, 1, 1, 1), act=act)
    y = b.activation(x, act)
    assert_equal(b.graph(x, y), b.images(3))


@pytest.mark.parametrize("seed", range(8))
def test_blocks_equal_the_reference(seed: int) -> None:
    """Residuals inside and outside of a convolution, squeeze-and-excitation, pooling, logits."""
    b = Builder(200 + seed, (7, 6, 3))
    channels = int(b.rng.integers(1, 12))
    x = b.conv(b.last, channels, (3, 3), (2, 2), (0, 1, 0, 1), act="silu")
    y = b.conv(x, channels, (3, 3), pad=(1, 1, 1, 1), groups=channels, act="hard_swish")
    pooled = b.emit("global_avg_pool", (y,), (1, 1, channels), b.grid(8))
    squeezed = b.conv(pooled, 3, (1, 1), act="silu")
    gate = b.conv(squeezed, channels, (1, 1), act="sigmoid", q=QParams(float(np.float32(1 / 255)), 0, 8))
    grid = b.grid()
    y = b.emit("mul", (y, gate), b.values[y].shape, grid)
    y = b.conv(y, channels, (1, 1), residual=x)
    z = b.emit("add", (x, y), b.values[y].shape, b.grid())
    z = b.emit("concat", (z, z), (*b.values[y].shape[:2], 2 * channels), b.values[z].q)
    shape = b.values[z].shape
    z = b.emit(
        "max_pool2d",
        (z,),
        ((shape[0] + 1 - 2) // 1 + 1, (shape[1] + 1 - 3) // 2 + 1, shape[2]),
        b.values[z].q,
        {"kernel": [2, 3], "stride": [1, 2], "pad": [1, 0, 0, 1]},
    )
    flat = b.emit("flatten", (z,), (int(np.prod(b.values[z].shape)),), b.values[z].q)
    hidden = b.linear(flat, 5, "gelu", b.grid())
    logits = b.linear(hidden, 11, "none", None)
    real = b.emit("dequantize", (hidden,), (5,), None)
    assert_equal(b.graph(logits, real), b.images(2))


def test_sums_beyond_float32_stay_exact() -> None:
    """Weights of 127, inputs of 255 and biases near 2**30: partial sums and sums above 2**24."""
    rng = np.random.default_rng(7)
    q = QParams(0.03125, 0, 8)
    weight = QTensor.from_values(rng.integers(100, 128, (6, 3, 3, 96)), np.full(6, 1e-3, np.float32), INT8)
    bias = np.array([1, -1, 2**24 + 1, -(2**29) + 1, 2**30 - 1, 12345], np.int32)
    values = {
        "image": Value("image", (5, 5, 96)),
        "x": Value("x", (5, 5, 96), q),
        "y": Value("y", (3, 3, 6), QParams(2.0, 128, 8)),
        "r": Value("r", (3, 3, 6)),
    }
    attrs = {"stride": [1, 1], "pad": [0, 0, 0, 0], "groups": 1, "act": "none"}
    params = {"weight": weight, "bias": bias}
    nodes = (
        Node("q", "quantize", ("image",), "x"),
        Node("c", "conv2d", ("x",), "y", attrs, params),
        Node("d", "conv2d", ("x",), "r", attrs, params),
    )
    graph = verify(Graph("image", ("y", "r"), values, nodes))
    images = rng.uniform(4, 9, (2, 5, 5, 96)).astype(np.float32)
    codes = reference.run(graph, images, keep=True)["x"].astype(np.int64)
    assert np.abs(codes.sum(axis=(1, 2, 3))).max() * 100 > 2**24
    assert_equal(graph, images)


def test_a_batch_equals_its_images_and_may_be_empty() -> None:
    b = Builder(300, (5, 5, 3))
    x = b.conv(b.last, 6, (3, 3), pad=(1, 1, 1, 1), act="silu")
    graph, images = b.graph(x), b.images(torch_executor.CHUNK + 3)
    whole = torch_executor.run(graph, images)[x]
    single = [torch_executor.run(graph, images[i : i + 1])[x] for i in range(len(images))]
    assert np.array_equal(whole, np.concatenate(single))
    assert torch_executor.run(graph, images[:0])[x].shape == (0, 5, 5, 6)
    assert np.array_equal(torch_executor.run(graph, torch.from_numpy(images))[x], whole)


@pytest.mark.parametrize("act", ACTS)
def test_float_layers_are_within_the_bound(act: str) -> None:
    """numerics.md, "float32 and float16 layers": layer by layer, from equal inputs."""
    rng = np.random.default_rng(11)
    k = 3 * 3 * 5
    weight = rng.normal(size=(7, 3, 3, 5)).astype(np.float16)
    bias = rng.normal(size=7).astype(np.float32)
    attrs = {"stride": [2, 1], "pad": [1, 1, 0, 2], "groups": 1, "act": act}
    node = Node("c", "conv2d", ("image",), "y", attrs, {"weight": weight, "bias": bias})
    shape = (3, 6, 7)
    graph = verify(
        Graph("image", ("y",), {"image": Value("image", (6, 6, 5)), "y": Value("y", shape)}, (node,))
    )
    images = rng.normal(size=(3, 6, 6, 5)).astype(np.float32)
    expected, actual = reference.run(graph, images)["y"], torch_executor.run(graph, images)["y"]
    absolute = node.with_(attrs={**attrs, "act": "none"}, params={"weight": abs(weight), "bias": abs(bias)})
    magnitude = reference.run(Graph("image", ("y",), graph.values, (absolute,)), np.abs(images))["y"].astype(
        np.float64
    )
    u = 2.0**-24
    gamma = (k + 2) * u / (1 - (k + 2) * u)
    lipschitz = 1.5 if act == "hard_swish" else 1.13
    bound = lipschitz * gamma * magnitude + 2 * u * 4 * np.abs(expected) + 2.0**-23 * magnitude
    assert actual.dtype == np.float32
    assert (np.abs(actual.astype(np.float64) - expected) <= bound).all()


def test_float_ops_agree() -> None:
    rng = np.random.default_rng(12)
    shape = (5, 4, 6)
    values = {"image": Value("image", shape)}
    nodes = []

    def emit(op, inputs, out, attrs=None, params=None):  # type: ignore[no-untyped-def]
        name = f"v{len(nodes)}"
        values[name] = Value(name, out)
        nodes.append(Node(name, op, inputs, name, attrs or {}, params or {}))
        return name

    norm = {r: rng.uniform(0.5, 2, 6).astype(np.float32) for r in ("weight", "bias", "mean", "var")}
    x = emit("batch_norm", ("image",), shape, {"eps": 1e-3}, norm)
    gate = emit("global_avg_pool", (x,), (1, 1, 6))
    x = emit("mul", (x, gate), shape)
    x = emit("add", (x, "image"), shape)
    x = emit("concat", (x, "image"), (5, 4, 12))
    x = emit("max_pool2d", (x,), (3, 2, 12), {"kernel": [3, 3], "stride": [2, 2], "pad": [1, 1, 1, 0]})
    x = emit("activation", (x,), (3, 2, 12), {"act": "hard_sigmoid"})
    x = emit("flatten", (x,), (72,))
    graph = verify(Graph("image", (x,), values, tuple(nodes)))
    images = rng.normal(size=(2, *shape)).astype(np.float32)
    expected = reference.run(graph, images, keep=True)
    actual = torch_executor.run(graph, images, keep=True)
    # every op is correctly rounded or one ulp off from inputs that agree; no sum cancels here
    for name, array in expected.items():
        np.testing.assert_allclose(actual[name], array, rtol=8 * 2.0**-23, atol=8 * 2.0**-23)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 5, 5, 4), np.float32),
        np.zeros((1, 5, 5, 3), np.float64),
        np.full((1, 5, 5, 3), np.nan, np.float32),
    ],
)
def test_unusable_input_is_refused(images: np.ndarray) -> None:
    b = Builder(301, (5, 5, 3))
    with pytest.raises(InputError):
        torch_executor.run(b.graph(b.last), images)


def smooth_network() -> tuple[Graph, np.ndarray]:
    """Fine grids and wide 8-bit ranges: conv silu, depthwise, gate, residual, pool, linear."""
    rng = np.random.default_rng(21)
    grid = QParams(2.0**-5, 128, 8)
    shapes = {"image": (6, 6, 3), "x": (6, 6, 3), "a": (6, 6, 8), "b": (6, 6, 8), "p": (1, 1, 8)}
    shapes |= {"g": (1, 1, 8), "m": (6, 6, 8), "r": (6, 6, 8), "o": (1, 1, 8), "f": (8,), "y": (5,)}
    real = {"image", "y"}
    grids = {"g": QParams(2.0**-8, 0, 8)}
    values = {n: Value(n, s, None if n in real else grids.get(n, grid)) for n, s in shapes.items()}

    def layer(name, inputs, out, weight_shape, act, pre=None, **attrs):  # type: ignore[no-untyped-def]
        k = int(np.prod(weight_shape[1:]))
        weight = rng.integers(-127, 128, weight_shape)
        scale = np.full(weight_shape[0], 1 / (74 * np.sqrt(k)), np.float32)
        params = {"weight": QTensor.from_values(weight, scale, INT8)}
        params["bias"] = rng.integers(-900, 900, weight_shape[0]).astype(np.int32)
        attrs["act"] = act
        if act != "none":
            pre = QParams(2.0**-5, 128, 8)
            attrs |= {"pre_scale": pre.scale, "pre_zero": pre.zero_point}
            y = values[out].q
            params["table"] = activation_table(reference.activation_function(act), pre, y)
        op = "linear" if len(weight_shape) == 2 else "conv2d"
        return Node(name, op, inputs, out, attrs, params)

    same = {"stride": [1, 1], "pad": [1, 1, 1, 1], "groups": 1}
    point = {"stride": [1, 1], "pad": [0, 0, 0, 0], "groups": 1}
    nodes = (
        Node("quantize", "quantize", ("image",), "x"),
        layer("stem", ("x",), "a", (8, 3, 3, 3), "silu", **same),
        layer("depthwise", ("a",), "b", (8, 3, 3, 1), "gelu", **{**same, "groups": 8}),
        Node("pool", "global_avg_pool", ("b",), "p"),
        layer("gate", ("p",), "g", (8, 1, 1, 8), "sigmoid", **point),
        Node("mul", "mul", ("b", "g"), "m"),
        layer("project", ("m", "a"), "r", (8, 1, 1, 8), "none", **point),
        Node("head", "global_avg_pool", ("r",), "o"),
        Node("flatten", "flatten", ("o",), "f"),
        layer("classifier", ("f",), "y", (5, 8), "none"),
    )
    return verify(Graph("image", ("y",), values, nodes)), rng.normal(size=(4, 6, 6, 3)).astype(np.float32)


def real_network(state: dict[str, torch.Tensor], graph: Graph, x: torch.Tensor) -> torch.Tensor:
    """What the graph computes when nothing is rounded or clamped, in float64, as a function of state."""
    real = {graph.input: x}
    for node in graph.nodes:
        arrays = [real[n] for n in node.inputs]
        if node.op in ("conv2d", "linear"):
            w = state[f"{node.name}:weight"].double()
            s = state[f"{node.name}:weight_scale"].double()
            unit = state[f"{node.inputs[0]}:scale"].double() * s
            w = w * s.view(-1, *[1] * (w.ndim - 1))
            y = torch_ops.products(node, arrays[0], w)
            bias = state[f"{node.name}:bias"] * unit
            y = function(node.attrs["act"])(y + (bias.view(1, -1, 1, 1) if y.ndim == 4 else bias))
            real[node.output] = y + arrays[1] if len(arrays) == 2 else y
        else:
            real[node.output] = {
                "quantize": lambda a: a[0],
                "mul": lambda a: a[0] * a[1],
                "global_avg_pool": lambda a: a[0].mean((2, 3), keepdim=True),
                "flatten": lambda a: a[0].flatten(1),
            }[node.op](arrays)
    return real[graph.outputs[0]]


def test_gradients_are_those_of_the_real_function() -> None:
    """Straight-through gradients of weights, biases and the input against central differences.

    The quantized network evaluates derivatives at rounded points: half a step of 2**-5 at each of
    the nine values on the way, so directional derivatives agree to about nine times 2**-6 = 14 %.
    """
    graph, images = smooth_network()
    rng = np.random.default_rng(22)
    probe = torch.from_numpy(rng.normal(size=(4, 5)))
    base = torch_executor.state_of(graph)
    names = [n for n in base if n.split(":")[1] in ("weight", "bias", "weight_scale")]
    trained = {n: base[n].clone().requires_grad_(n in names) for n in base}
    x = torch_executor.nchw(images).clone().requires_grad_()
    y = torch_executor.forward(graph, x, trained)["y"]
    (y.double() * probe).sum().backward()

    def loss(name: str, step: torch.Tensor) -> float:
        state = {n: t.double() + (step if n == name else 0) for n, t in base.items()}
        image = torch_executor.nchw(images).double() + (step if name == "image" else 0)
        return float((real_network(state, graph, image) * probe).sum())

    for name in [*names, "image"]:
        gradient = (x if name == "image" else trained[name]).grad
        assert gradient is not None
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() > 0
        direction = gradient.double() / gradient.double().norm()
        step = direction * 1e-3 * float((x if name == "image" else base[name]).detach().double().norm())
        difference = (loss(name, step) - loss(name, -step)) / (2 * float(step.norm()))
        assert difference == pytest.approx(float(gradient.double().norm()), rel=0.14), name


def test_scale_gradients_are_the_ones_of_lsq() -> None:
    """arXiv 1902.08153, equation 3: d(s·q)/ds is q − v/s inside the range and ±q_max outside."""
    values = {"image": Value("image", (4,)), "x": Value("x", (4,), QParams(0.5, 3, 3))}
    values["y"] = Value("y", (4,))
    nodes = (Node("q", "quantize", ("image",), "x"), Node("d", "dequantize", ("x",), "y"))
    graph = verify(Graph("image", ("y",), values, nodes))
    x = torch.tensor([[0.6, -0.9, 7.0, -7.0]], requires_grad=True)
    state = torch_executor.state_of(graph)
    state["x:scale"].requires_grad_()
    y = torch_executor.forward(graph, x, state)["y"]
    expected = [1 - 1.2, -2 + 1.8, 4.0, -3.0]
    for i, gradient in enumerate(expected):
        (actual,) = torch.autograd.grad(y[0, i], state["x:scale"], retain_graph=True)
        assert float(actual) == pytest.approx(gradient, abs=1e-6)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1.0, 1.0, 0.0, 0.0]]


def test_recording_gradients_does_not_change_the_integers() -> None:
    graph, images = smooth_network()
    state = torch_executor.state_of(graph)
    for tensor in state.values():
        tensor.requires_grad_()
    recorded = torch_executor.forward(graph, torch_executor.nchw(images), state, keep=True)
    plain = torch_executor.run(graph, images, keep=True)
    for name, array in plain.items():
        tensor = recorded[name].detach()
        tensor = tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor
        assert np.array_equal(tensor.numpy(), array), name
