"""What a model is collected in, while the rows of the operations add to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from subbyte.artifact.own_grids import KEY, to_text
from subbyte.errors import InputError
from subbyte.exporters.grids import Ranges
from subbyte.ir import Graph, Node, Value, is_weighted
from subbyte.ir.activations import parse_activation
from subbyte.ir.graph import consumers
from subbyte.quant import QParams

SCHEMA_VERSION = 3
SIGMOID = QParams(1 / 256, 0)
SAME, VALID = 0, 1  # Padding
LOWEST = float(np.finfo(np.float32).min)
_FLOAT32, _INT32, _INT8 = 0, 2, 9  # TensorType
#: Versions of builtin operators that take int8, where it is not the second.
_VERSIONS = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 4,
    "RESHAPE": 1,
    "HARD_SWISH": 1,
    "ELU": 1,
}
#: Activation to the one builtin operator that computes it, on any grid, and its options.
_ONE_OPERATOR: dict[str, tuple[str, str, dict[str, Any]]] = {
    "relu": ("RELU", "", {}),
    "relu6": ("RELU6", "", {}),
    "hard_swish": ("HARD_SWISH", "", {}),
    "elu": ("ELU", "", {}),
    "gelu": ("GELU", "GeluOptions", {"approximate": False}),
    "gelu_tanh": ("GELU", "GeluOptions", {"approximate": True}),
}


class Writer:
    """Collects tensors and operators; tensors are numbers, `values` says which one a value is.

    own_grids: by tensor, the graph's own where the format asks for another (`subbyte.artifact.own_grids`).
    """

    def __init__(self, schema: Any, graph: Graph, batch: int, ranges: Ranges, integer_io: bool) -> None:
        self.schema, self.graph, self.batch, self.ranges = schema, graph, batch, ranges
        self.integer_io = integer_io
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT()]
        self.operators: list[Any] = []
        self.codes: dict[str, int] = {}
        self.own_grids: dict[str, QParams | None] = {}
        self.values: dict[str, int] = {}
        self.values[graph.input] = self.tensor(graph.value(graph.input), self._input_grid())

    def _input_grid(self) -> QParams | None:
        """What the image is given on: None for float32."""
        if not self.integer_io:
            return None
        readers = consumers(self.graph)[self.graph.input]
        grids = {self.graph.value(node.output).q for node in readers if node.op == "quantize"}
        if len(grids) != 1 or None in grids or any(node.op != "quantize" for node in readers):
            raise InputError(
                "integer inputs need a network whose image is quantized once, before anything else"
            )
        return grids.pop()

    def range_of(self, node: Node) -> tuple[float, float]:
        """Low and high of a float32 output. InputError if they were not given."""
        if node.output not in self.ranges:
            raise InputError(
                f"TensorFlow Lite export needs the range of {node.output!r}, a float32 output of a quantized "
                "layer; give images (`--calibration`), or `ranges`"
            )
        return self.ranges[node.output]

    def tensor(self, value: Value, q: QParams | None, suffix: str = "") -> int:
        """A value, or another tensor of its shape, on the grid q (None: float32).

        InputError for a grid of other than 8 bits.
        """
        if q is not None and q.bits != 8:
            raise InputError(
                f"TensorFlow Lite export takes 8-bit activations, but {value.name!r} has {q.format.words}; "
                "compress with 8-bit activations, or export QDQ"
            )
        grid = None if q is None else self.grid([q.scale], [q.zero_point - 128])
        kind = _FLOAT32 if q is None else _INT8
        return self._append(value.name + suffix, (self.batch, *value.shape), kind, 0, grid)

    def constant(self, name: str, array: np.ndarray, grid: Any = None) -> int:
        """A tensor of float32, int32 or int8 numbers; returns its index."""
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self.buffers.append(buffer)
        kind = {"float32": _FLOAT32, "int32": _INT32, "int8": _INT8}[str(array.dtype)]
        return self._append(name, array.shape, kind, len(self.buffers) - 1, grid)

    def is_codes(self, tensor: int) -> bool:
        """Whether a tensor is int8, as sums are that a graph has in float32."""
        return bool(self.tensors[tensor].type == _INT8)

    def grid(self, scales: Sequence[float], zeros: Sequence[int], dimension: int = 0) -> Any:
        """Quantization parameters; dimension: the axis of which each has its own scale."""
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

    def other_grid(self, tensor: int, own: QParams | None) -> None:
        """Notes that the graph has a tensor on another grid; None: real numbers."""
        self.own_grids[self.tensors[tensor].name.decode()] = own

    def finish(self) -> bytes:
        """The serialized model."""
        import flatbuffers

        schema = self.schema
        for name in self.graph.outputs:
            if self.tensors[self.values[name]].type == _INT8 and not self.integer_io:
                real = self.tensor(self.graph.value(name), None, "/real")
                self.values[name] = self.op("DEQUANTIZE", [self.values[name]], real)
        subgraph, model = schema.SubGraphT(), schema.ModelT()
        subgraph.tensors, subgraph.operators = self.tensors, self.operators
        subgraph.inputs = [self.values[self.graph.input]]
        subgraph.outputs = [self.values[name] for name in self.graph.outputs]
        model.version, model.subgraphs, model.buffers = SCHEMA_VERSION, [subgraph], self.buffers
        model.operatorCodes = [self._code(kind) for kind in self.codes]
        if self.own_grids:
            model.metadata = [self._note()]
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _note(self) -> Any:
        """The metadata entry that keeps `own_grids`."""
        entry, buffer = self.schema.MetadataT(), self.schema.BufferT()
        buffer.data = np.frombuffer(to_text(self.own_grids).encode(), np.uint8)
        self.buffers.append(buffer)
        entry.name, entry.buffer = KEY.encode(), len(self.buffers) - 1
        return entry

    def _code(self, kind: str) -> Any:
        made = self.schema.OperatorCodeT()
        code = getattr(self.schema.BuiltinOperator, kind)
        made.builtinCode, made.deprecatedBuiltinCode = code, min(code, 127)  # 127: see the other field
        made.version = _VERSIONS.get(kind, 2)
        return made

    def activation(self, act: str, x: int, q: QParams | None, value: Value, output: int | None) -> int:
        """act(x) in tensor `output`, or in a new one on grid q where that is None.

        InputError for an `act` that the format has not.
        """
        if act == "sigmoid":
            made = output
            if made is None:
                made = self.tensor(value, q and SIGMOID)
                if q is not None and q != SIGMOID:
                    self.other_grid(made, q)
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
        if act == "hard_sigmoid":
            return self._hard_sigmoid(x, q, value, made)
        raise InputError(f"TensorFlow Lite export has no {act} (value {value.name!r})")

    def _hard_sigmoid(self, x: int, q: QParams | None, value: Value, made: int) -> int:
        """relu6(x + 3) / 6 in float32, also between codes: there is no operator, and gates are short."""
        if self.is_codes(x):
            x = self.op("DEQUANTIZE", [x], self.tensor(value, None, "/real"))
        three, sixth = (
            self.constant(f"{value.name}/{name}", np.array([number], np.float32))
            for name, number in (("three", 3.0), ("sixth", 1 / 6))
        )
        moved = self.op("ADD", [x, three], self.tensor(value, None, "/moved"), "AddOptions")
        clamped = self.op("RELU6", [moved], self.tensor(value, None, "/clamped"))
        if q is None:
            return self.op("MUL", [clamped, sixth], made, "MulOptions")
        share = self.op("MUL", [clamped, sixth], self.tensor(value, None, "/share"), "MulOptions")
        return self.op("QUANTIZE", [share], made)


#: Adds what makes a node's output.
Row = Callable[[Writer, Node], None]


def plain(kind: str, options: str = "", **fields: Any) -> Row:
    """One operator of the same inputs."""

    def export(w: Writer, node: Node) -> None:
        w.op(kind, [w.values[name] for name in node.inputs], w.out(node), options, **fields)

    return export


def padded(w: Writer, node: Node, kernel: Sequence[int]) -> tuple[int, int]:
    """The padding mode, and the tensor to read: the input, or a padded copy of it, by zeros for a layer and
    by the smallest numbers for a max pool."""
    x, pad = w.graph.value(node.inputs[0]), node.attrs["pad"]
    source = w.values[node.inputs[0]]
    if tuple(pad) == (0, 0, 0, 0):
        return VALID, source
    if tuple(pad) == (*_same(x.shape[0], kernel[0], 0, node), *_same(x.shape[1], kernel[1], 1, node)):
        return SAME, source
    top, bottom, left, right = pad
    amounts = w.constant(
        f"{node.name}/pad", np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
    )
    height, width, channels = x.shape
    larger = Value(x.name, (height + top + bottom, width + left + right, channels))
    inputs, output = [source, amounts], w.tensor(larger, x.q, f"/{node.name}")
    if is_weighted(node):
        return VALID, w.op("PAD", inputs, output, "PadOptions")
    # the largest number of a window is none of those around the map where these are the smallest
    least: np.ndarray = np.array([LOWEST], np.float32) if x.q is None else np.array([-128], np.int8)
    grid = None if x.q is None else w.grid([x.q.scale], [x.q.zero_point - 128])
    inputs.append(w.constant(f"{node.name}/least", least, grid))
    return VALID, w.op("PADV2", inputs, output, "PadV2Options")


def _same(size: int, kernel: int, axis: int, node: Node) -> tuple[int, int]:
    """TensorFlow's padding "same": before and after."""
    stride = node.attrs["stride"][axis]
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
