"""What moves elements, and averages over windows."""

from __future__ import annotations

import numpy as np

from subbyte.exporters.onnx.writer import Row, Writer, pads
from subbyte.ir import Graph, Node


def whole(writer: Writer, node: Node, name: str, numbers: list[int]) -> str:
    """A vector of int64 as an initializer; returns its name."""
    return writer.tensor(f"{node.name}/{name}", np.array(numbers, np.int64))


def _slice(writer: Writer, graph: Graph, node: Node) -> None:
    tensors = [
        whole(writer, node, name, [numbers[2], *numbers[:2]])
        for name, numbers in (
            ("starts", node.attrs["begin"]),
            ("ends", node.attrs["end"]),
            ("axes", (2, 3, 1)),
            ("steps", node.attrs["step"]),
        )
    ]
    writer.op("Slice", [node.inputs[0], *tensors], node.output)


def _expand(writer: Writer, graph: Graph, node: Node) -> None:
    height, width, channels = node.attrs["size"]
    shape = whole(writer, node, "shape", [1, channels, height, width])
    writer.op("Expand", [node.inputs[0], shape], node.output)


def _rearrange(writer: Writer, graph: Graph, node: Node) -> None:
    """The graph's order is channels last."""
    x, size = node.inputs[0], list(node.attrs["size"])
    if len(graph.value(x).shape) == 3:
        x = writer.op("Transpose", [x], writer.fresh(f"{node.output}/nhwc"), perm=[0, 2, 3, 1])
    axes = [x, whole(writer, node, "dims", [0, *node.attrs["dims"]])]
    x = writer.op("Reshape", axes, writer.fresh(f"{node.output}/axes"))
    perm = [0, *(axis + 1 for axis in node.attrs["perm"])]
    x = writer.op("Transpose", [x], writer.fresh(f"{node.output}/turned"), perm=perm)
    last = [x, whole(writer, node, "size", [0, *size])]
    if len(size) == 1:
        writer.op("Reshape", last, node.output)
        return
    x = writer.op("Reshape", last, writer.fresh(f"{node.output}/sized"))
    writer.op("Transpose", [x], node.output, perm=[0, 3, 1, 2])


def _pad(writer: Writer, graph: Graph, node: Node) -> None:
    top, bottom, left, right = node.attrs["pad"]
    sides = whole(writer, node, "pads", [0, 0, top, left, 0, 0, bottom, right])
    mode = {"zero": "constant"}.get(node.attrs["mode"], node.attrs["mode"])
    writer.op("Pad", [node.inputs[0], sides], node.output, mode=mode)


def _avg_pool2d(writer: Writer, graph: Graph, node: Node) -> None:
    window = {
        "kernel_shape": list(node.attrs["kernel"]),
        "strides": list(node.attrs["stride"]),
        "pads": pads(node),
        "count_include_pad": node.attrs["count_pad"],
    }
    writer.op("AveragePool", node.inputs, node.output, **window)


ROWS: dict[str, Row] = {
    "slice": _slice,
    "expand": _expand,
    "rearrange": _rearrange,
    "pad": _pad,
    "avg_pool2d": _avg_pool2d,
}
