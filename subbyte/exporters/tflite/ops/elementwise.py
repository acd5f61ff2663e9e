"""activation, add and mul; quantize and dequantize."""

from __future__ import annotations

from subbyte.exporters.tflite.writer import Row, Writer, plain
from subbyte.ir import Node


def _activation(w: Writer, node: Node) -> None:
    value, x = w.graph.value(node.output), w.values[node.inputs[0]]
    if node.attrs["act"] == "none":
        w.op("QUANTIZE", [x], w.out(node))
        return
    output = None if value.q is not None and node.attrs["act"] == "sigmoid" else w.out(node)
    w.values[node.output] = w.activation(node.attrs["act"], x, value.q, value, output)


ROWS: dict[str, Row] = {
    "quantize": plain("QUANTIZE"),
    "dequantize": plain("DEQUANTIZE"),
    "activation": _activation,
    "add": plain("ADD", "AddOptions"),
    "mul": plain("MUL", "MulOptions"),
}
