"""A graph as a TensorFlow Lite model: float32, or with 8-bit weights and activations as it is quantized.

The format is TensorFlow Lite's schema (FlatBuffers), its quantization the published 8-bit specification:
int8 activations per tensor, int8 weights per output channel, int32 biases. Where that format asks for a
grid that a graph does not have, one is made: a residual's sum before its addition gets one that covers
every difference of the operands', sigmoid's output has the fixed one (1/256, -128), and an activation that
is a table here is the operation that the table stands for. So results are near, not equal.
Needs `ai_edge_litert`, whose package holds the schema, and `flatbuffers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from subbyte.errors import InputError
from subbyte.ir import Graph, Node, Value
from subbyte.ir.activations import parse_activation
from subbyte.ir.graph import pre_activation
from subbyte.quant import QParams, QTensor
from subbyte.system.imports import peer_module

SCHEMA_VERSION = 3
SIGMOID = QParams(1 / 256, 0)
_FUSED = {"none": 0, "relu": 1, "relu6": 3}  # ActivationFunctionType
_SAME, _VALID = 0, 1  # Padding
_FLOAT32, _INT32, _INT8 = 0, 2, 9  # TensorType
#: Builtin operators by code and the version of each that takes int8.
_OPERATORS = {
    "ADD": (0, 2), "CONCATENATION": (2, 2), "CONV_2D": (3, 3), "DEPTHWISE_CONV_2D": (4, 3),
    "DEQUANTIZE": (6, 2), "FULLY_CONNECTED": (9, 4), "LOGISTIC": (14, 2), "MAX_POOL_2D": (17, 2),
    "MUL": (18, 2), "RESHAPE": (22, 1), "PAD": (34, 2), "MEAN": (40, 2), "QUANTIZE": (114, 2),
    "HARD_SWISH": (117, 1), "RELU": (19, 2), "RELU6": (21, 2), "LEAKY_RELU": (98, 2), "ELU": (111, 1),
    "GELU": (150, 2),
}  # fmt: skip


#: Activation to the one builtin operator that computes it, on any grid, and its options.
_ONE_OPERATOR: dict[str, tuple[str, str, dict[str, Any]]] = {
    "relu": ("RELU", "", {}),
    "relu6": ("RELU6", "", {}),
    "hard_swish": ("HARD_SWISH", "", {}),
    "elu": ("ELU", "", {}),
    "gelu": ("GELU", "GeluOptions", {"approximate": False}),
    "gelu_tanh": ("GELU", "GeluOptions", {"approximate": True}),
}


def to_tflite(
    graph: Graph, *, batch: int = 1, ranges: Mapping[str, tuple[float, float]] | None = None
) -> bytes:
    """The serialized model; its input is float32 [batch, H, W, C], its outputs float32.

    graph: float32, or quantized to 8 bits throughout, then with `ranges`: low and high of those float32
    outputs that a quantized layer makes, by name.

    Raises InputError for a node or width that this export does not know, or a missing package.
    """
    writer = _Writer(peer_module("ai_edge_litert.schema_py_generated"), graph, batch, ranges or {})
    for node in graph.nodes:
        if node.op not in _EXPORTS:
            raise InputError(f"TensorFlow Lite export has no {node.op} (node {node.name!r})")
        _EXPORTS[node.op](writer, node)
    return writer.finish()


class _Writer:
    """Collects tensors and operators; tensors are numbers, `values` says which one a value is."""

    def __init__(
        self, schema: Any, graph: Graph, batch: int, ranges: Mapping[str, tuple[float, float]]
    ) -> None:
        self.schema, self.graph, self.batch, self.ranges = schema, graph, batch, ranges
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT()]
        self.operators: list[Any] = []
        self.codes: dict[str, int] = {}
        self.values: dict[str, int] = {}
        self.values[graph.input] = self.tensor(graph.value(graph.input), None)

    def tensor(self, value: Value, q: QParams | None, suffix: str = "") -> int:
        """A value, or another tensor of its shape, on the grid q (None: float32)."""
        if q is not None and q.bits != 8:
            raise InputError(f"TensorFlow Lite export takes 8-bit activations; {value.name!r} has {q.bits}")
        grid = None if q is None else self.grid([q.scale], [q.zero_point - 128])
        kind = _FLOAT32 if q is None else _INT8
        return self._append(value.name + suffix, (self.batch, *value.shape), kind, 0, grid)

    def constant(self, name: str, array: np.ndarray, grid: Any = None) -> int:
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self.buffers.append(buffer)
        kind = {"float32": _FLOAT32, "int32": _INT32, "int8": _INT8}[str(array.dtype)]
        return self._append(name, array.shape, kind, len(self.buffers) - 1, grid)

    def grid(self, scales: Sequence[float], zeros: Sequence[int], dimension: int = 0) -> Any:
        made = self.schema.QuantizationParametersT()
        made.scale, made.zeroPoint, made.quantizedDimension = list(scales), list(zeros), dimension
        return made

    def _append(self, name: str, shape: Sequence[int], kind: int, buffer: int, grid: Any) -> int:
        made = self.schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name.encode(), list(shape), kind, buffer
        made.quantization = grid
        self.tensors.append(made)
        return len(self.tensors) - 1

    def op(self, kind: str, inputs: Sequence[int], output: int, options: str = "", **fields: Any) -> int:
        """Appends an operator; `options`: the class of its options in the schema, without its "T"."""
        made = self.schema.OperatorT()
        made.opcodeIndex = self.codes.setdefault(kind, len(self.codes))
        made.inputs, made.outputs = list(inputs), [output]
        if options:
            made.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
            made.builtinOptions = getattr(self.schema, f"{options}T")()
            for name, value in fields.items():
                setattr(made.builtinOptions, name, value)
        self.operators.append(made)
        return output

    def out(self, node: Node, q: QParams | None = None) -> int:
        """The tensor of a node's output; on q, where a quantized node's value has no grid of its own."""
        value = self.graph.value(node.output)
        made = self.tensor(value, value.q or q)
        self.values[node.output] = made
        return made

    def finish(self) -> bytes:
        import flatbuffers

        schema = self.schema
        for name in self.graph.outputs:
            if self.tensors[self.values[name]].type == _INT8:
                real = self.tensor(self.graph.value(name), None, "/real")
                self.values[name] = self.op("DEQUANTIZE", [self.values[name]], real)
        subgraph, model = schema.SubGraphT(), schema.ModelT()
        subgraph.tensors, subgraph.operators = self.tensors, self.operators
        subgraph.inputs = [self.values[self.graph.input]]
        subgraph.outputs = [self.values[name] for name in self.graph.outputs]
        model.version, model.subgraphs, model.buffers = SCHEMA_VERSION, [subgraph], self.buffers
        model.operatorCodes = [self._code(kind) for kind in self.codes]
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _code(self, kind: str) -> Any:
        made = self.schema.OperatorCodeT()
        code, version = _OPERATORS[kind]
        made.builtinCode, made.deprecatedBuiltinCode = code, min(code, 127)  # 127: see the other field
        made.version = version
        return made

    def activation(self, act: str, x: int, q: QParams | None, value: Value, output: int | None) -> int:
        """act(x) in tensor `output`, or in a new one on grid q where that is None."""
        if act == "sigmoid":
            made = self.tensor(value, q and SIGMOID) if output is None else output
            return self.op("LOGISTIC", [x], made)
        made = self.tensor(value, q) if output is None else output
        row, parameters = parse_activation(act)
        if act in _ONE_OPERATOR:
            kind, options, fields = _ONE_OPERATOR[act]
            return self.op(kind, [x], made, options, **fields)
        if row.name == "leaky_relu":
            return self.op("LEAKY_RELU", [x], made, "LeakyReluOptions", alpha=parameters[0])
        if act == "silu":
            gate = self.op("LOGISTIC", [x], self.tensor(value, q and SIGMOID, "/gate"))
            return self.op("MUL", [x, gate], made, "MulOptions")
        raise InputError(f"TensorFlow Lite export has no {act} (value {value.name!r})")


def _weights(w: _Writer, node: Node, axis: int, shape: Callable[[np.ndarray], np.ndarray]) -> list[int]:
    """The tensors of weight and bias. shape: how the weight lies; axis: its output channels then."""
    weight, bias = node.params["weight"], node.params["bias"]
    assert isinstance(bias, np.ndarray)
    names = [f"{node.name}/weight", f"{node.name}/bias"]
    if not isinstance(weight, QTensor):
        arrays = (shape(weight.astype(np.float32)), bias.astype(np.float32))
        return [w.constant(n, a) for n, a in zip(names, arrays, strict=True)]
    x = w.graph.value(node.inputs[0]).q
    assert x is not None
    zeros = [0] * len(weight.scale)
    scales = np.float64(x.scale) * weight.scale
    return [
        w.constant(names[0], shape(weight.values()), w.grid(weight.scale.tolist(), zeros, axis)),
        w.constant(names[1], bias, w.grid(scales.astype(np.float32).tolist(), zeros)),
    ]


def _layer(
    w: _Writer, node: Node, kind: str, options: str, axis: int, shape: Any, x: int, **fields: Any
) -> None:
    """A convolution or linear layer with its activation and residual, as up to four operators."""
    value, act = w.graph.value(node.output), node.attrs["act"]
    quantized = w.graph.value(node.inputs[0]).q is not None
    target = pre_activation(node, value) if quantized else None
    if quantized and target is None:
        target = _covering(*w.ranges[node.output])
    residual = node.inputs[1:]
    if quantized and residual:
        target = _difference(value.q, w.graph.value(residual[0]).q)
    fused = act in _FUSED
    inputs = [x, *_weights(w, node, axis, shape)]
    fields["fusedActivationFunction"] = _FUSED[act] if fused else 0
    if fused and not residual:
        w.op(kind, inputs, w.out(node, target), options, **fields)
        return
    current = w.op(kind, inputs, w.tensor(value, target, "/sum"), options, **fields)
    if not fused:
        output = None if residual or (quantized and act == "sigmoid") else w.out(node)
        current = w.activation(act, current, target and (value.q or target), value, output)
        w.values[node.output] = current
    if residual:
        w.op("ADD", [current, w.values[residual[0]]], w.out(node), "AddOptions")


def _covering(low: float, high: float) -> QParams:
    low, high = min(low, 0.0), max(high, 1e-6)
    scale = float(np.float32((high - low) / 255))
    return QParams(scale, int(np.clip(round(-low / scale), 0, 255)))


def _difference(y: QParams | None, r: QParams | None) -> QParams:
    """Covers every y - r, so that y = (y - r) + r never saturates in between."""
    assert y is not None
    assert r is not None
    return _covering(y.low - r.high, y.high - r.low)


def _conv2d(w: _Writer, node: Node) -> None:
    x, weight = w.graph.value(node.inputs[0]), node.params["weight"]
    outputs, kernel, groups = weight.shape[0], weight.shape[1:3], node.attrs["groups"]
    padding, source = _padded(w, node, kernel)
    vertical, horizontal = node.attrs["stride"]
    fields = {"padding": padding, "strideH": vertical, "strideW": horizontal}
    fields |= {"dilationHFactor": 1, "dilationWFactor": 1}
    if groups == x.shape[2] == outputs and groups > 1:
        fields["depthMultiplier"] = 1
        options = "DepthwiseConv2DOptions"
        _layer(w, node, "DEPTHWISE_CONV_2D", options, 3, lambda a: a.transpose(3, 1, 2, 0), source, **fields)
    else:
        _layer(w, node, "CONV_2D", "Conv2DOptions", 0, lambda a: a, source, **fields)


def _padded(w: _Writer, node: Node, kernel: Sequence[int]) -> tuple[int, int]:
    """The padding mode, and the tensor to read: the input, or a padded copy of it."""
    x, pad = w.graph.value(node.inputs[0]), node.attrs["pad"]
    source = w.values[node.inputs[0]]
    if tuple(pad) == (0, 0, 0, 0):
        return _VALID, source
    if tuple(pad) == (*_same(x.shape[0], kernel[0], 0, node), *_same(x.shape[1], kernel[1], 1, node)):
        return _SAME, source
    if node.op == "max_pool2d":
        raise InputError(
            f"TensorFlow Lite export takes max pooling with padding 'same' or none ({node.name!r})"
        )
    top, bottom, left, right = pad
    amounts = w.constant(
        f"{node.name}/pad", np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
    )
    height, width, channels = x.shape
    larger = Value(x.name, (height + top + bottom, width + left + right, channels))
    return _VALID, w.op("PAD", [source, amounts], w.tensor(larger, x.q, f"/{node.name}"), "PadOptions")


def _same(size: int, kernel: int, axis: int, node: Node) -> tuple[int, int]:
    """TensorFlow's padding "same": before and after."""
    stride = node.attrs["stride"][axis]
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _linear(w: _Writer, node: Node) -> None:
    source = w.values[node.inputs[0]]
    _layer(w, node, "FULLY_CONNECTED", "FullyConnectedOptions", 0, lambda a: a, source)


def _max_pool2d(w: _Writer, node: Node) -> None:
    padding, source = _padded(w, node, node.attrs["kernel"])
    (height, width), (vertical, horizontal) = node.attrs["kernel"], node.attrs["stride"]
    fields = {"padding": padding, "strideH": vertical, "strideW": horizontal}
    fields |= {"filterHeight": height, "filterWidth": width}
    w.op("MAX_POOL_2D", [source], w.out(node), "Pool2DOptions", **fields)


def _activation(w: _Writer, node: Node) -> None:
    value, x = w.graph.value(node.output), w.values[node.inputs[0]]
    if node.attrs["act"] == "none":
        w.op("QUANTIZE", [x], w.out(node))
        return
    output = None if value.q is not None and node.attrs["act"] == "sigmoid" else w.out(node)
    w.values[node.output] = w.activation(node.attrs["act"], x, value.q, value, output)


def _global_avg_pool(w: _Writer, node: Node) -> None:
    axes = w.constant(f"{node.name}/axes", np.array([1, 2], np.int32))
    w.op("MEAN", [w.values[node.inputs[0]], axes], w.out(node), "ReducerOptions", keepDims=True)


def _flatten(w: _Writer, node: Node) -> None:
    shape = np.array([w.batch, *w.graph.value(node.output).shape], np.int32)
    inputs = [w.values[node.inputs[0]], w.constant(f"{node.name}/shape", shape)]
    w.op("RESHAPE", inputs, w.out(node), "ReshapeOptions", newShape=shape.tolist())


def _plain(kind: str, options: str = "", **fields: Any) -> Callable[[_Writer, Node], None]:
    def export(w: _Writer, node: Node) -> None:
        w.op(kind, [w.values[name] for name in node.inputs], w.out(node), options, **fields)

    return export


_EXPORTS: dict[str, Callable[[_Writer, Node], None]] = {
    "quantize": _plain("QUANTIZE"),
    "dequantize": _plain("DEQUANTIZE"),
    "conv2d": _conv2d,
    "linear": _linear,
    "activation": _activation,
    "add": _plain("ADD", "AddOptions"),
    "mul": _plain("MUL", "MulOptions"),
    "global_avg_pool": _global_avg_pool,
    "max_pool2d": _max_pool2d,
    "concat": _plain("CONCATENATION", "ConcatenationOptions", axis=3),
    "flatten": _flatten,
}
