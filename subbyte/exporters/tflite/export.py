"""The model: a graph's rows, one after another."""

from __future__ import annotations

from collections.abc import Mapping

from subbyte.errors import InputError
from subbyte.exporters.tflite.ops import OPS
from subbyte.exporters.tflite.writer import Writer
from subbyte.ir import Graph
from subbyte.ir.ops import refusal
from subbyte.system.imports import peer_module


def export(graph: Graph, *, batch: int) -> bytes:
    """The file of `to_tflite`. InputError as there."""
    return to_tflite(graph, batch=batch)


def to_tflite(
    graph: Graph, *, batch: int = 1, ranges: Mapping[str, tuple[float, float]] | None = None
) -> bytes:
    """The serialized model; its input is float32 [batch, H, W, C], its outputs float32.

    graph: float32, or quantized to 8 bits throughout, then with `ranges`: low and high of those float32
    outputs that a quantized layer makes, by name.

    Raises InputError for a node or width that this export does not know, or a missing package.
    """
    writer = Writer(peer_module("ai_edge_litert.schema_py_generated"), graph, batch, ranges or {})
    for node in graph.nodes:
        if reason := refusal(node, "tflite", "TensorFlow Lite export"):
            raise InputError(reason)
        OPS[node.op](writer, node)
    return writer.finish()
