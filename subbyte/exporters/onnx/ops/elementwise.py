"""activation, add and mul."""

from __future__ import annotations

from subbyte.exporters.onnx.writer import Row, Writer, float_array, plain
from subbyte.ir import Graph, Node


def _activation(writer: Writer, graph: Graph, node: Node) -> None:
    writer.activation(node.attrs["act"], node.inputs[0], node.output)


def scaled_gate(writer: Writer, node: Node) -> str:
    """The gate of a `mul`, times its channels' factors."""
    gate = node.inputs[1]
    if "channel_scale" not in node.params:
        return gate
    scale = writer.tensor(f"{node.name}/channel_scale", float_array(node, "channel_scale")[:, None, None])
    return writer.op("Mul", [gate, scale], writer.fresh(f"{node.output}/scaled"))


def _mul(writer: Writer, graph: Graph, node: Node) -> None:
    writer.op("Mul", [node.inputs[0], scaled_gate(writer, node)], node.output)


ROWS: dict[str, Row] = {"activation": _activation, "add": plain("Add"), "mul": _mul}
