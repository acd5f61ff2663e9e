"""conv2d, linear and batch_norm."""

from __future__ import annotations

from collections.abc import Callable

from subbyte.exporters.onnx.writer import Row, Writer, float_array, pads, to_nchw
from subbyte.ir import Graph, Node


def _finish(writer: Writer, node: Node, make: Callable[[str], str]) -> None:
    """Adds act(make()) [+ residual]; `make(name)` adds the main operation with that output name."""
    stages = [node.attrs["act"] != "none", len(node.inputs) == 2]
    names = [writer.fresh(f"{node.output}/{i}") for i in range(sum(stages))] + [node.output]
    current = make(names.pop(0))
    if stages[0]:
        current = writer.activation(node.attrs["act"], current, names.pop(0))
    if stages[1]:
        writer.op("Add", [current, node.inputs[1]], names.pop(0))


def _conv2d(writer: Writer, graph: Graph, node: Node) -> None:
    weight, bias = writer.weight(node, to_nchw), writer.bias(node)
    attrs = {
        "kernel_shape": list(node.params["weight"].shape[1:3]),
        "strides": list(node.attrs["stride"]),
        "pads": pads(node),
        "group": node.attrs["groups"],
        "dilations": list(node.attrs.get("dilation", (1, 1))),
    }
    _finish(writer, node, lambda name: writer.op("Conv", [node.inputs[0], weight, bias], name, **attrs))


def _linear(writer: Writer, graph: Graph, node: Node) -> None:
    weight, bias = writer.weight(node), writer.bias(node)
    _finish(writer, node, lambda name: writer.op("Gemm", [node.inputs[0], weight, bias], name, transB=1))


def _batch_norm(writer: Writer, graph: Graph, node: Node) -> None:
    roles = ("weight", "bias", "mean", "var")
    params = [writer.tensor(f"{node.name}.{role}", float_array(node, role)) for role in roles]
    writer.op("BatchNormalization", [node.inputs[0], *params], node.output, epsilon=float(node.attrs["eps"]))


ROWS: dict[str, Row] = {"conv2d": _conv2d, "linear": _linear, "batch_norm": _batch_norm}
