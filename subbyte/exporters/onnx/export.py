"""The model: its rows' nodes and tensors, inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from subbyte.errors import InputError
from subbyte.exporters.onnx.ops import OPS
from subbyte.exporters.onnx.writer import Row, Writer
from subbyte.ir import Graph, Node
from subbyte.ir.ops import refusal
from subbyte.system.imports import peer_module

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 20  # the first with Gelu


def to_onnx(graph: Graph, *, batch: int | None = 1) -> ModelProto:
    """The float graph as an ONNX model (opset 20) that `onnx.checker` accepts.

    Input: float32 [batch, C, H, W]; `batch=None` leaves the batch size open (engines are faster
    when it is fixed). Outputs: float32 [batch, C] or [batch, C, H, W], in the graph's order and
    under its value names. float16 weights are widened.

    Raises InputError if the graph is quantized or `onnx` is not installed.
    """
    onnx = peer_module("onnx")
    for node in graph.nodes:
        _check_float(graph, node)
    return model(onnx, Writer(onnx, graph.values), graph, OPS, batch=batch)


def export(graph: Graph, *, batch: int) -> bytes:
    """The file of `to_onnx`. InputError as there."""
    data: bytes = to_onnx(graph, batch=batch).SerializeToString()
    return data


def executed(graph: Graph, data: bytes) -> dict[str, str]:
    """Every node computes in float32."""
    return {node.name: "float32" for node in graph.nodes}


def model(
    onnx: Any,
    writer: Writer,
    graph: Graph,
    rows: Mapping[str, Row],
    *,
    batch: int | None,
    opsets: Sequence[tuple[str, int]] = (("", OPSET),),
) -> ModelProto:
    """What the rows add to the writer for each node, as a model that `onnx.checker` accepts.

    opsets: domains and their versions.
    """
    for node in graph.nodes:
        rows[node.op](writer, graph, node)
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opsets]
    made: ModelProto = onnx.helper.make_model(
        onnx.helper.make_graph(
            writer.nodes,
            "subbyte",
            [_tensor_info(onnx, graph, graph.input, batch)],
            [_tensor_info(onnx, graph, name, batch, writer.same.get(name, name)) for name in graph.outputs],
            writer.tensors,
        ),
        opset_imports=imports,
        ir_version=onnx.helper.find_min_ir_version_for(imports[:1]),
        producer_name="subbyte",
    )
    onnx.checker.check_model(made, full_check=True)
    return made


def _check_float(graph: Graph, node: Node) -> None:
    if reason := refusal(node, "onnx", "ONNX export"):
        raise InputError(reason)
    if graph.value(node.output).q is not None:
        raise InputError(
            f"node {node.name!r} is quantized and ONNX export takes float graphs; "
            "apply subbyte.passes.dequantize.dequantize_graph first"
        )


def _tensor_info(onnx: Any, graph: Graph, value: str, batch: int | None, name: str | None = None) -> Any:
    """Of float32 numbers; name: what a value is called in the model, if not as in the graph."""
    shape = graph.value(value).shape
    if len(shape) == 3:
        shape = (shape[2], shape[0], shape[1])
    return onnx.helper.make_tensor_value_info(
        name or value, onnx.TensorProto.FLOAT, ["N" if batch is None else batch, *shape]
    )
