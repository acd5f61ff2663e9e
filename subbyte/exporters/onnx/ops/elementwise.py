"""activation, add and mul."""

from __future__ import annotations

from subbyte.exporters.onnx.writer import Row, Writer, plain
from subbyte.ir import Graph, Node


def _activation(writer: Writer, graph: Graph, node: Node) -> None:
    writer.activation(node.attrs["act"], node.inputs[0], node.output)


ROWS: dict[str, Row] = {"activation": _activation, "add": plain("Add"), "mul": plain("Mul")}
