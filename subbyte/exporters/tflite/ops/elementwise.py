"""activation, add and mul; quantize and dequantize."""

from __future__ import annotations

import numpy as np

from subbyte.exporters.tflite.writer import SIGMOID, Row, Writer, plain
from subbyte.ir import Node, Value
from subbyte.ir.graph import consumers


def _activation(w: Writer, node: Node) -> None:
    value, x = w.graph.value(node.output), w.values[node.inputs[0]]
    if node.attrs["act"] == "none":
        w.op("QUANTIZE", [x], w.out(node))
        return
    if value.q is None and w.is_codes(x):  # of a layer whose sums are float32 in the graph
        if node.attrs["act"] == "sigmoid":  # its grid is fixed, so that integers can stay
            w.values[node.output] = w.activation("sigmoid", x, SIGMOID, value, None)
            return
        x = w.op("DEQUANTIZE", [x], w.tensor(w.graph.value(node.inputs[0]), None, f"/{node.name}/real"))
    output = None if value.q is not None and node.attrs["act"] == "sigmoid" else w.out(node)
    w.values[node.output] = w.activation(node.attrs["act"], x, value.q, value, output)


def _mul(w: Writer, node: Node) -> None:
    """A channel_scale multiplies the gate; codes do so in float32: the format has one scale a tensor."""
    inputs = [w.graph.value(name) for name in node.inputs]
    x, gate = (w.values[value.name] for value in inputs)
    scale = node.params.get("channel_scale")
    if scale is None:
        w.op("MUL", [x, gate], w.out(node), "MulOptions")
        return
    assert isinstance(scale, np.ndarray)
    value = w.graph.value(node.output)
    if value.q is not None:
        x, gate = (
            w.op("DEQUANTIZE", [w.values[v.name]], w.tensor(v, None, f"/{node.name}/real")) for v in inputs
        )
    factor = w.constant(f"{node.name}/channel_scale", scale)
    scaled = w.tensor(inputs[1], None, f"/{node.name}/scaled")
    gate = w.op("MUL", [gate, factor], scaled, "MulOptions")
    if value.q is None:
        w.op("MUL", [x, gate], w.out(node), "MulOptions")
        return
    real = w.op("MUL", [x, gate], w.tensor(Value(value.name, value.shape), None, "/real"), "MulOptions")
    w.op("QUANTIZE", [real], w.out(node))


def _quantize(w: Writer, node: Node) -> None:
    """Nothing where codes come in."""
    if w.integer_io and node.inputs[0] == w.graph.input:
        w.values[node.output] = w.values[w.graph.input]
    else:
        w.op("QUANTIZE", [w.values[node.inputs[0]]], w.out(node))


def _dequantize(w: Writer, node: Node) -> None:
    """Nothing where codes go out."""
    readers = consumers(w.graph)[node.output]
    if w.integer_io and node.output in w.graph.outputs and not readers:
        w.values[node.output] = w.values[node.inputs[0]]
    else:
        w.op("DEQUANTIZE", [w.values[node.inputs[0]]], w.out(node))


ROWS: dict[str, Row] = {
    "quantize": _quantize,
    "dequantize": _dequantize,
    "activation": _activation,
    "add": plain("ADD", "AddOptions"),
    "mul": _mul,
}
