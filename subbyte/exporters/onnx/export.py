"""The model: its rows' nodes and tensors, inputs and outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from subbyte.errors import InputError
from subbyte.exporters.onnx.ops import OPS
from subbyte.exporters.onnx.writer import Writer
from subbyte.ir import Graph, Node
from subbyte.ir.ops import refusal
from subbyte.system.imports import peer_module

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 20  # the first with Gelu
IR_VERSION = 9


def to_onnx(graph: Graph, *, batch: int | None = 1) -> ModelProto:
    """The float graph as an ONNX model (opset 20) that `onnx.checker` accepts.

    Input: float32 [batch, C, H, W]; `batch=None` leaves the batch size open (engines are faster
    when it is fixed). Outputs: float32 [batch, C] or [batch, C, H, W], in the graph's order and
    under its value names. float16 weights are widened.

    Raises InputError if the graph is quantized or `onnx` is not installed.
    """
    onnx = peer_module("onnx")
    writer = Writer(onnx, graph.values)
    for node in graph.nodes:
        _check_float(graph, node)
        OPS[node.op](writer, graph, node)
    model: ModelProto = onnx.helper.make_model(
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


def export(graph: Graph, *, batch: int) -> bytes:
    """The file of `to_onnx`. InputError as there."""
    data: bytes = to_onnx(graph, batch=batch).SerializeToString()
    return data


def _check_float(graph: Graph, node: Node) -> None:
    if reason := refusal(node, "onnx", "ONNX export"):
        raise InputError(reason)
    if graph.value(node.output).q is not None:
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
