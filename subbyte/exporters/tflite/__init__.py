"""A graph as a TensorFlow Lite model: float32, or with 8-bit weights and activations as it is quantized.

The format is TensorFlow Lite's schema (FlatBuffers), its quantization the published 8-bit specification:
int8 activations per tensor, int8 weights per output channel, int32 biases. Where that format asks for a
grid that a graph does not have, one is made: a residual's sum before its addition gets one that covers
every difference of the operands', sigmoid's output has the fixed one (1/256, -128), and an activation that
is a table here is the operation that the table stands for. So results are near, not equal.
Needs `ai_edge_litert`, whose package holds the schema, and `flatbuffers`.
"""

from subbyte.exporters.tflite.export import executed, export, to_tflite
from subbyte.exporters.tflite.ops import OPS

__all__ = ["OPS", "executed", "export", "to_tflite"]
