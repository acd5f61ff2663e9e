"""What the torch executor has beyond the contract of executors: useful gradients, and tensors as images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from subbyte.execute import reference
from subbyte.execute.torch import executor as torch_executor
from subbyte.execute.torch.step import products
from subbyte.execute.torch.straight_through import real as function
from subbyte.ir import ACTIVATIONS, Graph, Node, Value, verify
from subbyte.quant import QParams, QTensor, activation_table
from subbyte.quant.format import INT8
from tests.fuzz.builder import PARAMETRIC

ACTS = (*ACTIVATIONS, *PARAMETRIC)
torch.manual_seed(0)


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


def smooth_network() -> tuple[Graph, np.ndarray]:
    """Fine grids and wide 8-bit ranges: conv silu, depthwise, gate, residual, pool, linear."""
    rng = np.random.default_rng(21)
    grid = QParams(2.0**-5, 128, 8)
    shapes: dict[str, tuple[int, ...]]
    shapes = {"image": (6, 6, 3), "x": (6, 6, 3), "a": (6, 6, 8), "b": (6, 6, 8), "p": (1, 1, 8)}
    shapes |= {"g": (1, 1, 8), "m": (6, 6, 8), "r": (6, 6, 8), "o": (1, 1, 8), "f": (8,), "y": (5,)}
    real = {"image", "y"}
    grids = {"g": QParams(2.0**-8, 0, 8)}
    values = {n: Value(n, s, None if n in real else grids.get(n, grid)) for n, s in shapes.items()}

    def layer(
        name: str, inputs: tuple[str, ...], out: str, weight_shape: tuple[int, ...], act: str, **attrs: Any
    ) -> Node:
        k = int(np.prod(weight_shape[1:]))
        weight = rng.integers(-127, 128, weight_shape)
        scale = np.full(weight_shape[0], 1 / (74 * np.sqrt(k)), np.float32)
        params: dict[str, np.ndarray | QTensor] = {"weight": QTensor.from_values(weight, scale, INT8)}
        params["bias"] = rng.integers(-900, 900, weight_shape[0]).astype(np.int32)
        attrs["act"] = act
        if act != "none":
            pre = QParams(2.0**-5, 128, 8)
            attrs |= {"pre_scale": pre.scale, "pre_zero": pre.zero_point}
            y = values[out].q
            assert y is not None
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
            y = products(node, arrays[0], w)
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


def test_a_tensor_is_as_good_as_an_array() -> None:
    graph, images = smooth_network()
    assert np.array_equal(
        torch_executor.run(graph, torch.from_numpy(images))["y"], torch_executor.run(graph, images)["y"]
    )


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
