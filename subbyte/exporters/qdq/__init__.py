"""A quantized graph as an ONNX model of QuantizeLinear and DequantizeLinear nodes around float operations.

ONNX Runtime, OpenVINO and others fuse these to integer operations. Activations are uint8, weights int8 with a
scale per output channel, biases int32; the rows of float operations are those of `exporters.onnx`.
docs/export.md says what is equal to the graph's integers and what bounds the rest. Needs the `onnx` package.
"""

from subbyte.exporters.qdq.executed import executed
from subbyte.exporters.qdq.export import OPS, export, to_qdq

__all__ = ["OPS", "executed", "export", "to_qdq"]
