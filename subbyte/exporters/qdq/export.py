"""The model, and the rows of what changes grids; all others are those of float models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from subbyte.artifact import own_grids
from subbyte.errors import InputError
from subbyte.exporters.explicit import explicit
from subbyte.exporters.grids import Ranges
from subbyte.exporters.onnx.export import OPSET
from subbyte.exporters.onnx.export import model as make_model
from subbyte.exporters.onnx.ops import OPS as FLOAT
from subbyte.exporters.onnx.ops.elementwise import scaled_gate
from subbyte.exporters.onnx.writer import Layout, Row, Writer
from subbyte.ir import Graph, Node, Value
from subbyte.ir.ops import refusal
from subbyte.quant import QTensor
from subbyte.system.imports import peer_module

if TYPE_CHECKING:
    from onnx import ModelProto

INT4_OPSET = 21  # the first with tensors of int4


def to_qdq(
    graph: Graph,
    *,
    batch: int | None = 1,
    ranges: Ranges | None = None,
    fused_residuals: bool = False,
    exact: bool = False,
    int4: bool = False,
) -> ModelProto:
    """The graph as a model that `onnx.checker` accepts (opset 20; 21 with int4).

    Input: float32 [batch, C, H, W]; `batch=None` leaves the batch size open. Outputs: float32, in the graph's
    order, and called after its values ("y/real" where y is codes). Float layers are those of `to_onnx`.

    fused_residuals: a layer's sums and its residual are added before they are rounded, once, as in the graph;
    otherwise the sums are rounded first, to a grid that covers `ranges` (see `residual_grid`), which is what
    engines need that compute every operation in integers; the file has a note of it (`artifact.own_grids`).
    exact: fused residuals, and gates rounded as the graph rounds them, in float32. Who computes as the file
    says gets the graph's codes, but where a sum is within float32's rounding of the middle between two.
    int4: weights of 2 to 4 bits on a plain grid are int4 tensors, half the bytes; all others, and without it
    these too, are int8.

    Raises InputError for a node that this export does not know, or if `onnx` is not installed.
    """
    onnx = peer_module("onnx")
    for node in graph.nodes:
        if reason := refusal(node, "qdq", "QDQ export"):
            raise InputError(reason)
    rounded = not (fused_residuals or exact)
    made, added = explicit(graph, rounded_sums=rounded, ranges=ranges, rounded_gates=exact)
    opset, writer = INT4_OPSET if int4 else OPSET, QdqWriter(onnx, made, int4)
    model = make_model(onnx, writer, made, OPS, batch=batch, opsets=[("", opset)])
    if noted := [*added, *writer.noted]:
        onnx.helper.set_model_props(model, {own_grids.KEY: own_grids.to_text(dict.fromkeys(noted))})
    return model


def export(
    graph: Graph,
    *,
    batch: int,
    ranges: Ranges | None = None,
    fused_residuals: bool = False,
    exact: bool = False,
    int4: bool = False,
) -> bytes:
    """The file of `to_qdq`. InputError as there."""
    model = to_qdq(graph, batch=batch, ranges=ranges, fused_residuals=fused_residuals, exact=exact, int4=int4)
    data: bytes = model.SerializeToString()
    return data


class QdqWriter(Writer):
    """Weights and biases behind DequantizeLinear; scales and zero points of values."""

    def __init__(self, onnx: Any, graph: Graph, int4: bool) -> None:
        super().__init__(onnx, graph.values)
        self._int4 = onnx.TensorProto.INT4 if int4 else None
        self._grids: dict[str, list[str]] = {}
        self.scales: dict[str, float] = {}  # of the codes behind real numbers
        self.noted: list[str] = []  # tensors whose rounding is the graph's own, for `own_grids`

    def grid(self, value: Value) -> list[str]:
        """The names of the scale and zero point of a value on a grid."""
        if value.name not in self._grids:
            zero = np.array(value.grid.zero_point, np.uint8)
            names = [
                self.number(f"{value.name}.scale", value.grid.scale),
                self.tensor(f"{value.name}.zero", zero),
            ]
            self._grids[value.name] = names
        return self._grids[value.name]

    def weight(self, node: Node, layout: Layout = lambda array: array) -> str:
        """A layer's weights, dequantized from int8 or int4 where they are on a grid; returns their name."""
        weight = node.params["weight"]
        if not isinstance(weight, QTensor):
            return super().weight(node, layout)
        narrow = self._int4 is not None and weight.bits <= 4 and not weight.format.book
        make, zeros = self._packed if narrow else self.tensor, np.zeros(weight.shape[0], np.int8)
        codes = make(f"{node.name}.weight", layout(weight.values()))
        return self._dequantized(codes, weight.scale, make(f"{codes}.zero", zeros))

    def bias(self, node: Node) -> str:
        """A layer's bias, dequantized from int32 where its weights are on a grid; returns its name."""
        weight, bias = node.params["weight"], node.params["bias"]
        if not isinstance(weight, QTensor):
            return super().bias(node)
        assert isinstance(bias, np.ndarray)
        codes = self.tensor(f"{node.name}.bias", bias.astype(np.int32))
        return self._dequantized(codes, np.float32(self.scales[node.inputs[0]]) * weight.scale)

    def note(self, kind: str, inputs: list[str], output: str) -> str:
        """Appends a node that a graph has inside an operation; returns its output."""
        self.noted.append(output)
        return self.op(kind, inputs, output)

    def _dequantized(self, codes: str, scales: np.ndarray, *zeros: str) -> str:
        inputs = [codes, self.tensor(f"{codes}.scale", scales.astype(np.float32)), *zeros]
        return self.op("DequantizeLinear", inputs, self.fresh(f"{codes}/real"), axis=0)

    def _packed(self, name: str, values: np.ndarray) -> str:
        """An int4 initializer of int8 values in -8 .. 7: two a byte, the first in the low half."""
        nibbles = (values.ravel() & 15).astype(np.uint8)
        nibbles = np.append(nibbles, np.zeros(nibbles.size % 2, np.uint8))
        unique, data = self.fresh(name), (nibbles[::2] | nibbles[1::2] << 4).tobytes()
        self.tensors.append(self._onnx.helper.make_tensor(unique, self._int4, values.shape, data, raw=True))
        return unique


def _quantize(writer: Writer, graph: Graph, node: Node) -> None:
    """QuantizeLinear; a grid of fewer bits ends at its largest code, which a byte does not."""
    assert isinstance(writer, QdqWriter)
    value = graph.value(node.output)
    inputs = [*node.inputs, *writer.grid(value)]
    if value.grid.qmax == 255:
        writer.op("QuantizeLinear", inputs, node.output)
        return
    codes = writer.op("QuantizeLinear", inputs, writer.fresh(f"{node.output}/byte"))
    low, high = (
        writer.tensor(f"{node.output}.{role}", np.array(code, np.uint8))
        for role, code in (("low", 0), ("high", value.grid.qmax))
    )
    writer.op("Clip", [codes, low, high], node.output)


def _dequantize(writer: Writer, graph: Graph, node: Node) -> None:
    assert isinstance(writer, QdqWriter)
    value = graph.value(node.inputs[0])
    writer.scales[node.output] = value.grid.scale
    writer.op("DequantizeLinear", [value.name, *writer.grid(value)], node.output)


def _activation(writer: Writer, graph: Graph, node: Node) -> None:
    """Of codes, a look-up in the table."""
    table = node.params.get("table")
    if table is None:
        FLOAT["activation"](writer, graph, node)
        return
    assert isinstance(table, np.ndarray)
    index = writer.op("Cast", node.inputs, writer.fresh(f"{node.output}/index"), to=6)  # INT32
    writer.op("Gather", [writer.tensor(f"{node.output}.table", table), index], node.output, axis=0)


def _mul(writer: Writer, graph: Graph, node: Node) -> None:
    """Of an exact model: the gate in whole steps, and what makes ties round up."""
    if "step" not in node.attrs:
        FLOAT["mul"](writer, graph, node)
        return
    assert isinstance(writer, QdqWriter)
    y, step = node.output, float(node.attrs["step"])
    gate = scaled_gate(writer, node)
    for kind, numbers in (("Mul", [1 / step]), ("Round", []), ("Mul", [step])):
        others = [writer.number(f"{y}/step", number) for number in numbers]
        gate = writer.note(kind, [gate, *others], writer.fresh(f"{y}/gate"))
    product = writer.op("Mul", [node.inputs[0], gate], writer.fresh(f"{y}/product"))
    writer.note("Add", [product, writer.number(f"{y}/tie", float(node.attrs["tie"]))], y)


OPS: dict[str, Row] = {
    **FLOAT,
    "quantize": _quantize,
    "dequantize": _dequantize,
    "activation": _activation,
    "mul": _mul,
}
