"""The model: a graph's rows, one after another."""

from __future__ import annotations

from subbyte.errors import InputError
from subbyte.exporters.grids import Ranges
from subbyte.exporters.tflite.ops import OPS
from subbyte.exporters.tflite.writer import Writer
from subbyte.ir import Graph, Node
from subbyte.ir.ops import refusal
from subbyte.system.imports import peer_module


def export(graph: Graph, *, batch: int, ranges: Ranges | None = None, integer_io: bool = False) -> bytes:
    """The file of `to_tflite`. InputError as there."""
    return to_tflite(graph, batch=batch, ranges=ranges, integer_io=integer_io)


def executed(graph: Graph, data: bytes) -> dict[str, str]:
    """The format says it: an operator computes in the numbers that it reads."""
    return {node.name: _numbers(graph, node) for node in graph.nodes}


def _numbers(graph: Graph, node: Node) -> str:
    real = graph.value(node.inputs[0]).q is None
    return "float32" if real or "channel_scale" in node.params else "int8"


def to_tflite(
    graph: Graph, *, batch: int = 1, ranges: Ranges | None = None, integer_io: bool = False
) -> bytes:
    """The serialized model; its input is float32 [batch, H, W, C], its outputs float32.

    graph: float32, or quantized to 8 bits throughout. ranges: low and high of those float32 outputs that a
    quantized layer makes, by name, and of what layers sum up to before a residual, where that is known (see
    `residual_grid`). integer_io: input and outputs of quantized layers are int8 codes, as accelerators
    without float32 take them.

    Raises InputError for a node or width that this export does not know, a range that is missing, an input
    that cannot be codes, or a missing package.
    """
    schema = peer_module("ai_edge_litert.schema_py_generated")
    writer = Writer(schema, graph, batch, ranges or {}, integer_io)
    for node in graph.nodes:
        if reason := refusal(node, "tflite", "TensorFlow Lite export"):
            raise InputError(reason)
        OPS[node.op](writer, node)
    return writer.finish()
