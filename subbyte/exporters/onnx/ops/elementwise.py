"""activation, add and mul."""

from __future__ import annotations

from subbyte.exporters.onnx.writer import Row, Writer, float_array, plain
from subbyte.ir import Graph, Node


def _activation(writer: Writer, graph: Graph, node: Node) -> None:
    writer.activation(node.attrs["act"], node.inputs[0], node.output)


def _mul(writer: Writer, graph: Graph, node: Node) -> None:
    x, gate = node.inputs
    if "channel_scale" in node.params:
        scale = writer.tensor(f"{node.name}/channel_scale", float_array(node, "channel_scale")[:, None, None])
        gate = writer.op("Mul", [gate, scale], writer.fresh(f"{node.output}/scaled"))
    writer.op("Mul", [x, gate], node.output)


ROWS: dict[str, Row] = {"activation": _activation, "add": plain("Add"), "mul": _mul}
