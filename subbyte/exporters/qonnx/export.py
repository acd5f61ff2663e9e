"""The model, and the rows of what changes grids; all others are those of float models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from subbyte.errors import InputError
from subbyte.exporters.explicit import explicit
from subbyte.exporters.onnx.export import OPSET, model
from subbyte.exporters.onnx.ops import OPS as FLOAT
from subbyte.exporters.onnx.writer import Layout, Row, Writer
from subbyte.ir import Graph, Node
from subbyte.ir.ops import refusal
from subbyte.quant import QTensor
from subbyte.system.imports import peer_module

if TYPE_CHECKING:
    from onnx import ModelProto

DOMAIN, VERSION = "qonnx.custom_op.general", 1
BIAS_BITS = 32


def to_qonnx(graph: Graph, *, batch: int | None = 1) -> ModelProto:
    """The graph as a model whose standard nodes `onnx.checker` accepts (opset 20).

    Input: float32 [batch, C, H, W]; `batch=None` leaves the batch size open. Outputs: float32, in the graph's
    order; codes are the real numbers they stand for, as everywhere behind a Quant. Every value on a grid is
    the output, of its name, of a Quant with its width, scale and zero point; weights have a scale for each
    output channel, and are narrow where the lowest code does not occur; biases have 32 bits. Code books have
    int8 levels and make weights of 8 bits. A residual is added before the one rounding, as in the graph.

    Raises InputError for a node that this export does not know, for levels of activations, or if `onnx` is
    not installed.
    """
    onnx = peer_module("onnx")
    for node in graph.nodes:
        if reason := refusal(node, "qonnx", "QONNX export"):
            raise InputError(reason)
        q = graph.value(node.output).q
        if q is not None and q.levels is not None:
            raise InputError(
                f"QONNX has grids only, but {node.output!r} has {q.format.words}; compress without learned "
                "levels of activations, or export QDQ, which looks them up"
            )
    made, _ = explicit(graph, rounded_sums=False)
    return model(
        onnx, QonnxWriter(onnx, made), made, OPS, batch=batch, opsets=[("", OPSET), (DOMAIN, VERSION)]
    )


def export(graph: Graph, *, batch: int) -> bytes:
    """The file of `to_qonnx`. InputError as there."""
    data: bytes = to_qonnx(graph, batch=batch).SerializeToString()
    return data


def executed(graph: Graph, data: bytes) -> dict[str, str]:
    """The widths that a flow builds for every node: those of its weights and what it reads."""
    return {node.name: _widths(graph, node) for node in graph.nodes}


def _widths(graph: Graph, node: Node) -> str:
    q, weight = graph.value(node.inputs[0]).q, node.params.get("weight")
    if q is None:
        return "float32"
    reads = f"uint{q.bits}"
    return f"int{_bits(weight)} x {reads}" if isinstance(weight, QTensor) else reads


def _bits(weight: QTensor) -> int:
    return 8 if weight.format.book else weight.bits


class QonnxWriter(Writer):
    """Weights and biases behind Quant."""

    def __init__(self, onnx: Any, graph: Graph) -> None:
        super().__init__(onnx, graph.values)
        self.scales: dict[str, float] = {}  # of the grids that real numbers are on

    def quant(
        self, x: str, output: str, scale: np.ndarray, zero: int, bits: int, signed: bool, narrow: bool = False
    ) -> str:
        """Appends a Quant that rounds half to even; returns its output."""
        inputs = [
            x,
            self.tensor(f"{output}.scale", scale.astype(np.float32)),
            self.number(f"{output}.zero", zero),
            self.number(f"{output}.bits", bits),
        ]
        attrs = {"signed": int(signed), "narrow": int(narrow), "rounding_mode": "ROUND", "domain": DOMAIN}
        return self.op("Quant", inputs, output, **attrs)

    def weight(self, node: Node, layout: Layout = lambda array: array) -> str:
        """A layer's weights, behind a Quant where they are on a grid; returns their name."""
        weight = node.params["weight"]
        if not isinstance(weight, QTensor):
            return super().weight(node, layout)
        bits, values = _bits(weight), weight.values()
        real = self.tensor(f"{node.name}.weight", layout(weight.dequantize()))
        scale = weight.scale.reshape(-1, *([1] * (values.ndim - 1)))
        narrow = bool(values.min() > -(1 << (bits - 1)))
        return self.quant(real, self.fresh(f"{real}/quant"), scale, 0, bits, True, narrow)

    def bias(self, node: Node) -> str:
        """A layer's bias, behind a Quant where its weights are on a grid; returns its name."""
        weight, bias = node.params["weight"], node.params["bias"]
        if not isinstance(weight, QTensor):
            return super().bias(node)
        assert isinstance(bias, np.ndarray)
        scale = np.float32(self.scales[node.inputs[0]]) * weight.scale
        real = self.tensor(f"{node.name}.bias", bias.astype(np.float32) * scale)
        return self.quant(real, self.fresh(f"{real}/quant"), scale, 0, BIAS_BITS, True)


def _quantize(writer: Writer, graph: Graph, node: Node) -> None:
    assert isinstance(writer, QonnxWriter)
    q = graph.value(node.output).grid
    writer.quant(node.inputs[0], node.output, np.array(q.scale), q.zero_point, q.bits, False)


def _dequantize(writer: Writer, graph: Graph, node: Node) -> None:
    """What a Quant makes are real numbers."""
    assert isinstance(writer, QonnxWriter)
    writer.scales[node.output] = graph.value(node.inputs[0]).grid.scale
    writer.same[node.output] = node.inputs[0]


OPS: dict[str, Row] = {**FLOAT, "quantize": _quantize, "dequantize": _dequantize}
