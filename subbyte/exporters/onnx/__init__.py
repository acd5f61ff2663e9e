"""A float graph as an ONNX model, so that other engines can run the very same network.

Channels first, float32, one ONNX node per operation (two where ONNX keeps an activation or a
residual apart). Needs the `onnx` package.
"""

from subbyte.exporters.onnx.export import executed, export, to_onnx
from subbyte.exporters.onnx.ops import OPS
from subbyte.exporters.onnx.writer import to_nchw, to_nhwc

__all__ = ["OPS", "executed", "export", "to_nchw", "to_nhwc", "to_onnx"]
