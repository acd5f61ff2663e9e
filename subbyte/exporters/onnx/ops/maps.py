"""Pools, concat and flatten."""

from __future__ import annotations

from subbyte.exporters.onnx.writer import Row, Writer, pads, plain
from subbyte.ir import Graph, Node


def _max_pool2d(writer: Writer, graph: Graph, node: Node) -> None:
    kernel, stride = list(node.attrs["kernel"]), list(node.attrs["stride"])
    writer.op("MaxPool", node.inputs, node.output, kernel_shape=kernel, strides=stride, pads=pads(node))


def _flatten(writer: Writer, graph: Graph, node: Node) -> None:
    """Channels-last order, so a map larger than 1 x 1 is transposed first."""
    x, shape = node.inputs[0], graph.value(node.inputs[0]).shape
    if len(shape) == 3 and shape[:2] != (1, 1):
        x = writer.op("Transpose", [x], writer.fresh(f"{node.output}/nhwc"), perm=[0, 2, 3, 1])
    writer.op("Flatten", [x], node.output, axis=1)


ROWS: dict[str, Row] = {
    "global_avg_pool": plain("GlobalAveragePool"),
    "max_pool2d": _max_pool2d,
    "concat": plain("Concat", axis=1),
    "flatten": _flatten,
}
