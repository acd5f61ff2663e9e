"""Makes small TensorFlow Lite files, operator by operator, with LiteRT's own classes of the schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

KINDS = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "int16": 7, "int8": 9}
#: Versions of builtin operators, where it is not the second.
VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 5}
VERSIONS |= dict.fromkeys(("RESHAPE", "HARD_SWISH", "ELU", "PRELU", "SQUEEZE", "RELU_N1_TO_1"), 1)
SAME, VALID = 0, 1
NONE, RELU, RELU_N1_TO_1, RELU6 = 0, 1, 2, 3


class File:
    """Tensors and operators are appended; every method returns the number of the tensor that it made."""

    def __init__(self, shape: Sequence[int] = (1, 8, 9, 4), dtype: str = "float32", **grid: Any) -> None:
        import ai_edge_litert.schema_py_generated as schema

        self.schema = schema
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT()]
        self.operators: list[Any] = []
        self.codes: list[str] = []
        self.metadata: list[Any] = []
        self.rng = np.random.default_rng(5)
        self.input = self.tensor("image", shape, dtype, **grid)

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str = "float32",
        scale: Sequence[float] = (),
        zero: Sequence[int] = (),
        axis: int = 0,
        data: bytes | None = None,
    ) -> int:
        made = self.schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name.encode(), list(shape), KINDS[dtype], 0
        if scale:
            q = self.schema.QuantizationParametersT()
            q.scale, q.zeroPoint, q.quantizedDimension = list(scale), list(zero), axis
            made.quantization = q
        if data is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(data, np.uint8)
            self.buffers.append(buffer)
            made.buffer = len(self.buffers) - 1
        self.tensors.append(made)
        return len(self.tensors) - 1

    def constant(self, array: Any, dtype: str = "float32", **grid: Any) -> int:
        array = np.ascontiguousarray(array, dtype)
        name = f"constant {len(self.tensors)}"
        return self.tensor(name, array.shape, dtype, data=array.tobytes(), **grid)

    def normal(self, *shape: int) -> int:
        """A float32 constant, of variance 1 over the numbers that are summed up."""
        return self.constant(self.rng.normal(size=shape) / np.sqrt(np.prod(shape[1:])))

    def op(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        options: str = "",
        grid: dict[str, Any] | None = None,
        **fields: Any,
    ) -> int:
        made = self.schema.OperatorT()
        if kind not in self.codes:
            self.codes.append(kind)
        output = self.tensor(f"{kind.lower()} {len(self.tensors)}", shape, **(grid or {}))
        made.opcodeIndex, made.inputs, made.outputs = self.codes.index(kind), list(inputs), [output]
        if options:
            made.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
            made.builtinOptions = getattr(self.schema, f"{options}T")()
            for name, value in fields.items():
                setattr(made.builtinOptions, name, value)
        self.operators.append(made)
        return output

    def conv(
        self,
        x: int,
        weight: int,
        bias: int,
        shape: Sequence[int],
        padding: int = SAME,
        stride: tuple[int, int] = (1, 1),
        act: int = NONE,
        multiplier: int = 0,
        grid: dict[str, Any] | None = None,
    ) -> int:
        """A convolution, depthwise if there is a multiplier."""
        fields = {"padding": padding, "strideH": stride[0], "strideW": stride[1]}
        fields |= {"fusedActivationFunction": act, "dilationHFactor": 1, "dilationWFactor": 1}
        inputs = [x, weight, bias]
        if multiplier:
            options = "DepthwiseConv2DOptions"
            more = {"depthMultiplier": multiplier}
            return self.op("DEPTHWISE_CONV_2D", inputs, shape, options, grid, **fields, **more)
        return self.op("CONV_2D", inputs, shape, "Conv2DOptions", grid, **fields)

    def model(self, *outputs: int) -> Any:
        """The whole, as an object of the schema's classes, which tests can damage."""
        schema = self.schema
        graph, made = schema.SubGraphT(), schema.ModelT()
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs = [self.input], list(outputs)
        made.version, made.subgraphs, made.buffers = 3, [graph], self.buffers
        made.description, made.metadata = b"made by a test", self.metadata
        made.operatorCodes = []
        for kind in self.codes:
            code = schema.OperatorCodeT()
            code.builtinCode = getattr(schema.BuiltinOperator, kind)
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.version = VERSIONS.get(kind, 2)
            made.operatorCodes.append(code)
        return made

    def bytes(self, *outputs: int) -> bytes:
        return packed(self.model(*outputs))


def packed(model: Any) -> bytes:
    """The bytes of a file."""
    import flatbuffers

    builder = flatbuffers.Builder(1 << 12)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
