"""Products, differences, slopes, other sizes, normalizations and attention."""

from __future__ import annotations

import numpy as np

from subbyte.exporters.onnx.ops.moves import whole
from subbyte.exporters.onnx.writer import Row, Writer, float_array, plain
from subbyte.ir import Graph, Node


def _is_map(graph: Graph, node: Node) -> bool:
    return len(graph.value(node.inputs[0]).shape) == 3


def _prelu(writer: Writer, graph: Graph, node: Node) -> None:
    slope = float_array(node, "slope")
    shaped = slope[:, None, None] if _is_map(graph, node) else slope
    writer.op("PRelu", [node.inputs[0], writer.tensor(f"{node.name}/slope", shaped)], node.output)


def _resize(kind: str) -> Row:
    def export(writer: Writer, graph: Graph, node: Node) -> None:
        """Nearest: as numerics.md rounds its coordinates."""
        mode = node.attrs["mode"]
        sizes = whole(writer, node, "sizes", list(node.attrs["size"]))
        rounding = {
            "asymmetric": "floor",
            "half_pixel": "round_prefer_ceil",
            "align_corners": "round_prefer_ceil",
        }
        attrs = {"nearest_mode": rounding[mode]} if kind == "nearest" else {}
        writer.op(
            "Resize",
            [node.inputs[0], "", "", sizes],
            node.output,
            mode=kind,
            coordinate_transformation_mode=mode,
            axes=[2, 3],
            **attrs,
        )

    return export


def _layer_norm(writer: Writer, graph: Graph, node: Node) -> None:
    """Over the last axis there, which are the channels here."""
    scale, bias = (
        writer.tensor(f"{node.name}/{role}", float_array(node, role)) for role in ("weight", "bias")
    )
    eps = float(node.attrs["eps"])
    if not _is_map(graph, node):
        writer.op("LayerNormalization", [node.inputs[0], scale, bias], node.output, axis=-1, epsilon=eps)
        return
    x = writer.op("Transpose", [node.inputs[0]], writer.fresh(f"{node.output}/nhwc"), perm=[0, 2, 3, 1])
    name = writer.fresh(f"{node.output}/normal")
    writer.op("LayerNormalization", [x, scale, bias], name, axis=-1, epsilon=eps)
    writer.op("Transpose", [name], node.output, perm=[0, 3, 1, 2])


def _group_norm(writer: Writer, graph: Graph, node: Node) -> None:
    """As an instance normalization of each group: before opset 21 GroupNormalization scales whole groups."""
    height, width, channels = graph.value(node.output).shape
    groups = node.attrs["groups"]
    shape = whole(writer, node, "groups", [0, groups, -1])
    x = writer.op("Reshape", [node.inputs[0], shape], writer.fresh(f"{node.output}/groups"))
    one = writer.tensor(f"{node.name}/one", np.ones(groups, np.float32))
    zero = writer.tensor(f"{node.name}/zero", np.zeros(groups, np.float32))
    normal = writer.fresh(f"{node.output}/normal")
    writer.op("InstanceNormalization", [x, one, zero], normal, epsilon=float(node.attrs["eps"]))
    back = whole(writer, node, "map", [0, channels, height, width])
    x = writer.op("Reshape", [normal, back], writer.fresh(f"{node.output}/map"))
    scale, bias = (
        writer.tensor(f"{node.name}/{role}", float_array(node, role)[:, None, None])
        for role in ("weight", "bias")
    )
    x = writer.op("Mul", [x, scale], writer.fresh(f"{node.output}/scaled"))
    writer.op("Add", [x, bias], node.output)


def _sqrt(writer: Writer, graph: Graph, node: Node) -> None:
    """Of what is below zero 0."""
    positive = writer.op("Relu", [node.inputs[0]], writer.fresh(f"{node.output}/positive"))
    writer.op("Sqrt", [positive], node.output)


def _matmul(writer: Writer, graph: Graph, node: Node) -> None:
    """[N, K, B, M] and [N, K, B, N'] to [N, N', B, M]."""
    a = writer.op("Transpose", [node.inputs[0]], writer.fresh(f"{node.output}/a"), perm=[0, 2, 3, 1])
    b = writer.op("Transpose", [node.inputs[1]], writer.fresh(f"{node.output}/b"), perm=[0, 2, 1, 3])
    x = writer.op("MatMul", [a, b], writer.fresh(f"{node.output}/product"))
    writer.op("Transpose", [x], node.output, perm=[0, 3, 1, 2])


ROWS: dict[str, Row] = {
    "multiply": plain("Mul"),
    "subtract": plain("Sub"),
    "divide": plain("Div"),
    "sqrt": _sqrt,
    "prelu": _prelu,
    "resize_nearest": _resize("nearest"),
    "resize_bilinear": _resize("linear"),
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "softmax": plain("Softmax", axis=1),
    "matmul": _matmul,
}
