"""What a model is collected in, while the rows of the operations add to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from subbyte.ir import Graph, Node
from subbyte.ir.activations import parse_activation
from subbyte.quant import QTensor

#: How an array lies in the format, from how it lies in a graph.
Layout = Callable[[np.ndarray], np.ndarray]


class Writer:
    """Collects ONNX nodes and initializers. `reserved` names stay free for the graph's values."""

    def __init__(self, onnx: Any, reserved: Iterable[str]) -> None:
        self._onnx = onnx
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self.same: dict[str, str] = {}  # values that have no tensor of their own -> whose tensor they are
        self._taken = set(reserved)

    def fresh(self, base: str) -> str:
        """`base`, or `base` with a number if something is called that already."""
        name, count = base, 0
        while name in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._taken.add(name)
        return name

    def op(self, kind: str, inputs: Sequence[str], output: str, **attrs: Any) -> str:
        """Appends a node; returns its output."""
        sources = [self.same.get(name, name) for name in inputs]
        node = self._onnx.helper.make_node(kind, sources, [output], name=f"{output}/{kind}", **attrs)
        self.nodes.append(node)
        return output

    def tensor(self, name: str, array: np.ndarray) -> str:
        """Adds an initializer and returns its name."""
        unique = self.fresh(name)
        self.tensors.append(self._onnx.numpy_helper.from_array(array, unique))
        return unique

    def number(self, name: str, value: float) -> str:
        """A float32 scalar as an initializer; returns its name."""
        return self.tensor(name, np.array(value, np.float32))

    def weight(self, node: Node, layout: Layout = lambda array: array) -> str:
        """A layer's weights, float32, as `layout` lays them; returns their name."""
        return self.tensor(f"{node.name}.weight", layout(float_array(node, "weight")))

    def bias(self, node: Node) -> str:
        """A layer's bias, float32; returns its name."""
        return self.tensor(f"{node.name}.bias", float_array(node, "bias"))

    def activation(self, act: str, x: str, output: str) -> str:
        """The nodes of an `act` attribute; returns their output."""
        row, parameters = parse_activation(act)
        return _ACTIVATIONS[row.name](self, x, output, *parameters)


def _direct(kind: str, *names: str, **attrs: Any) -> Callable[..., str]:
    """One ONNX operator; `names`: its attributes that are the activation's parameters."""

    def export(writer: Writer, x: str, output: str, *parameters: float) -> str:
        return writer.op(kind, [x], output, **attrs, **dict(zip(names, parameters, strict=True)))

    return export


def _silu(writer: Writer, x: str, output: str) -> str:
    return writer.op("Mul", [x, writer.op("Sigmoid", [x], writer.fresh(f"{output}/gate"))], output)


def _clip(writer: Writer, x: str, output: str, low: float, high: float) -> str:
    return writer.op(
        "Clip", [x, writer.number(f"{output}/low", low), writer.number(f"{output}/high", high)], output
    )


def _elu(writer: Writer, x: str, output: str, alpha: float, scale: float, rate: float) -> str:
    """Selu of rate * x: gamma * (x > 0 ? x : alpha * (e^x - 1))."""
    if rate != 1.0:
        x = writer.op("Mul", [x, writer.number(f"{output}/rate", rate)], writer.fresh(f"{output}/scaled"))
    return writer.op("Selu", [x], output, alpha=alpha * rate, gamma=scale / rate)


def _softplus(writer: Writer, x: str, output: str, beta: float) -> str:
    if beta == 1.0:
        return writer.op("Softplus", [x], output)
    factor = writer.number(f"{output}/beta", beta)
    scaled = writer.op("Mul", [x, factor], writer.fresh(f"{output}/scaled"))
    return writer.op("Div", [writer.op("Softplus", [scaled], writer.fresh(f"{output}/sum")), factor], output)


#: Activation to what adds it: writer, input, output and the activation's parameters -> output.
_ACTIVATIONS: dict[str, Callable[..., str]] = {
    "none": _direct("Identity"),
    "relu": _direct("Relu"),
    "relu6": lambda writer, x, output: _clip(writer, x, output, 0.0, 6.0),
    "silu": _silu,
    "hard_swish": _direct("HardSwish"),
    "sigmoid": _direct("Sigmoid"),
    "hard_sigmoid": _direct("HardSigmoid", alpha=1.0 / 6.0, beta=0.5),
    "gelu": _direct("Gelu", approximate="none"),
    "tanh": _direct("Tanh"),
    "leaky_relu": _direct("LeakyRelu", "alpha"),
    "gelu_tanh": _direct("Gelu", approximate="tanh"),
    "elu": _elu,
    "mish": _direct("Mish"),
    "softplus": _softplus,
    "clip": _clip,
}


#: Adds what makes a node's output.
Row = Callable[[Writer, Graph, Node], None]


def float_array(node: Node, role: str) -> np.ndarray:
    """A parameter, float32."""
    param = node.params[role]
    assert not isinstance(param, QTensor)
    return param.astype(np.float32)


def plain(kind: str, **attrs: Any) -> Row:
    """One ONNX operator of the same inputs."""

    def export(writer: Writer, graph: Graph, node: Node) -> None:
        writer.op(kind, node.inputs, node.output, **attrs)

    return export


def pads(node: Node) -> list[int]:
    """A node's padding in ONNX's order: all beginnings, then all ends."""
    top, bottom, left, right = node.attrs["pad"]
    return [top, left, bottom, right]


def to_nchw(x: np.ndarray) -> np.ndarray:
    """[N, H, W, C] to a contiguous [N, C, H, W]; vectors [N, C] stay as they are."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x


def to_nhwc(x: np.ndarray) -> np.ndarray:
    """[N, C, H, W] to a contiguous [N, H, W, C]; vectors [N, C] stay as they are."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x
