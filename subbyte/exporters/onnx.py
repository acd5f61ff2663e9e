"""A float graph as an ONNX model, so that other engines can run the very same network.

Channels first, float32, one ONNX node per operation (two where ONNX keeps an activation or a
residual apart). Needs the `onnx` package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from subbyte.errors import InputError
from subbyte.ir import Graph, Node
from subbyte.ir.activations import parse_activation
from subbyte.quant import QTensor
from subbyte.system.imports import peer_module

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 20  # the first with Gelu
IR_VERSION = 9


def _direct(kind: str, *names: str, **attrs: Any) -> Callable[..., str]:
    """One ONNX operator; `names`: its attributes that are the activation's parameters."""

    def export(writer: _Writer, x: str, output: str, *parameters: float) -> str:
        return writer.op(kind, [x], output, **attrs, **dict(zip(names, parameters, strict=True)))

    return export


def _silu(writer: _Writer, x: str, output: str) -> str:
    return writer.op("Mul", [x, writer.op("Sigmoid", [x], writer.fresh(f"{output}/gate"))], output)


def _clip(writer: _Writer, x: str, output: str, low: float, high: float) -> str:
    return writer.op(
        "Clip", [x, writer.number(f"{output}/low", low), writer.number(f"{output}/high", high)], output
    )


def _elu(writer: _Writer, x: str, output: str, alpha: float, scale: float, rate: float) -> str:
    """Selu of rate * x: gamma * (x > 0 ? x : alpha * (e^x - 1))."""
    if rate != 1.0:
        x = writer.op("Mul", [x, writer.number(f"{output}/rate", rate)], writer.fresh(f"{output}/scaled"))
    return writer.op("Selu", [x], output, alpha=alpha * rate, gamma=scale / rate)


def _softplus(writer: _Writer, x: str, output: str, beta: float) -> str:
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


def to_onnx(graph: Graph, *, batch: int | None = 1) -> ModelProto:
    """The float graph as an ONNX model (opset 20) that `onnx.checker` accepts.

    Input: float32 [batch, C, H, W]; `batch=None` leaves the batch size open (engines are faster
    when it is fixed). Outputs: float32 [batch, C] or [batch, C, H, W], in the graph's order and
    under its value names. float16 weights are widened.

    Raises InputError if the graph is quantized or `onnx` is not installed.
    """
    onnx = peer_module("onnx")
    writer = _Writer(onnx, graph.values)
    for node in graph.nodes:
        _check_float(graph, node)
        _EXPORTS[node.op](writer, graph, node)
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            writer.nodes,
            "subbyte",
            [_tensor_info(onnx, graph, graph.input, batch)],
            [_tensor_info(onnx, graph, name, batch) for name in graph.outputs],
            writer.tensors,
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="subbyte",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def to_nchw(x: np.ndarray) -> np.ndarray:
    """[N, H, W, C] to a contiguous [N, C, H, W]; vectors [N, C] stay as they are."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x


def to_nhwc(x: np.ndarray) -> np.ndarray:
    """[N, C, H, W] to a contiguous [N, H, W, C]; vectors [N, C] stay as they are."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x


class _Writer:
    """Collects ONNX nodes and initializers. `reserved` names stay free for the graph's values."""

    def __init__(self, onnx: Any, reserved: Iterable[str]) -> None:
        self._onnx = onnx
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
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
        node = self._onnx.helper.make_node(kind, list(inputs), [output], name=f"{output}/{kind}", **attrs)
        self.nodes.append(node)
        return output

    def tensor(self, name: str, array: np.ndarray) -> str:
        """Adds an initializer and returns its name."""
        unique = self.fresh(name)
        self.tensors.append(self._onnx.numpy_helper.from_array(array, unique))
        return unique

    def number(self, name: str, value: float) -> str:
        return self.tensor(name, np.array(value, np.float32))

    def activation(self, act: str, x: str, output: str) -> str:
        row, parameters = parse_activation(act)
        return _ACTIVATIONS[row.name](self, x, output, *parameters)


def _check_float(graph: Graph, node: Node) -> None:
    if node.op not in _EXPORTS or graph.value(node.output).q is not None:
        raise InputError(
            f"node {node.name!r} is quantized and ONNX export takes float graphs; "
            "apply subbyte.passes.dequantize.dequantize_graph first"
        )


def _tensor_info(onnx: Any, graph: Graph, name: str, batch: int | None) -> Any:
    shape = graph.value(name).shape
    if len(shape) == 3:
        shape = (shape[2], shape[0], shape[1])
    return onnx.helper.make_tensor_value_info(
        name, onnx.TensorProto.FLOAT, ["N" if batch is None else batch, *shape]
    )


def _array(node: Node, role: str) -> np.ndarray:
    param = node.params[role]
    assert not isinstance(param, QTensor)
    return param.astype(np.float32)


def _finish(writer: _Writer, node: Node, make: Callable[[str], str]) -> None:
    """Adds act(make()) [+ residual]; `make(name)` adds the main operation with that output name."""
    stages = [node.attrs["act"] != "none", len(node.inputs) == 2]
    names = [writer.fresh(f"{node.output}/{i}") for i in range(sum(stages))] + [node.output]
    current = make(names.pop(0))
    if stages[0]:
        current = writer.activation(node.attrs["act"], current, names.pop(0))
    if stages[1]:
        writer.op("Add", [current, node.inputs[1]], names.pop(0))


def _conv2d(writer: _Writer, graph: Graph, node: Node) -> None:
    weight = writer.tensor(f"{node.name}.weight", to_nchw(_array(node, "weight")))
    bias = writer.tensor(f"{node.name}.bias", _array(node, "bias"))
    attrs = {
        "kernel_shape": list(node.params["weight"].shape[1:3]),
        "strides": list(node.attrs["stride"]),
        "pads": _pads(node),
        "group": node.attrs["groups"],
    }
    _finish(writer, node, lambda name: writer.op("Conv", [node.inputs[0], weight, bias], name, **attrs))


def _linear(writer: _Writer, graph: Graph, node: Node) -> None:
    weight = writer.tensor(f"{node.name}.weight", _array(node, "weight"))
    bias = writer.tensor(f"{node.name}.bias", _array(node, "bias"))
    _finish(writer, node, lambda name: writer.op("Gemm", [node.inputs[0], weight, bias], name, transB=1))


def _batch_norm(writer: _Writer, graph: Graph, node: Node) -> None:
    roles = ("weight", "bias", "mean", "var")
    params = [writer.tensor(f"{node.name}.{role}", _array(node, role)) for role in roles]
    writer.op("BatchNormalization", [node.inputs[0], *params], node.output, epsilon=float(node.attrs["eps"]))


def _pads(node: Node) -> list[int]:
    """ONNX order: all beginnings, then all ends."""
    top, bottom, left, right = node.attrs["pad"]
    return [top, left, bottom, right]


def _max_pool2d(writer: _Writer, graph: Graph, node: Node) -> None:
    kernel, stride = list(node.attrs["kernel"]), list(node.attrs["stride"])
    writer.op("MaxPool", node.inputs, node.output, kernel_shape=kernel, strides=stride, pads=_pads(node))


def _flatten(writer: _Writer, graph: Graph, node: Node) -> None:
    """Channels-last order, so a map larger than 1 x 1 is transposed first."""
    x, shape = node.inputs[0], graph.value(node.inputs[0]).shape
    if len(shape) == 3 and shape[:2] != (1, 1):
        x = writer.op("Transpose", [x], writer.fresh(f"{node.output}/nhwc"), perm=[0, 2, 3, 1])
    writer.op("Flatten", [x], node.output, axis=1)


def _plain(kind: str, **attrs: Any) -> Callable[[_Writer, Graph, Node], None]:
    def export(writer: _Writer, graph: Graph, node: Node) -> None:
        writer.op(kind, node.inputs, node.output, **attrs)

    return export


def _activation(writer: _Writer, graph: Graph, node: Node) -> None:
    writer.activation(node.attrs["act"], node.inputs[0], node.output)


_EXPORTS: dict[str, Callable[[_Writer, Graph, Node], None]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "activation": _activation,
    "add": _plain("Add"),
    "mul": _plain("Mul"),
    "global_avg_pool": _plain("GlobalAveragePool"),
    "max_pool2d": _max_pool2d,
    "concat": _plain("Concat", axis=1),
    "flatten": _flatten,
}
