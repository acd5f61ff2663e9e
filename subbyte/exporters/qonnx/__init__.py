"""A quantized graph in QONNX: ONNX with a node `Quant` for every grid, of any width.

FINN, hls4ml and other flows to FPGAs read it. Activations and weights have their own widths, scales and zero
points; the rows of float operations are those of `exporters.onnx`. The dialect: Pappalardo et al., "QONNX:
Representing Arbitrary-Precision Quantized Neural Networks", arXiv 2206.07527. Needs the `onnx` package.
"""

from subbyte.exporters.qonnx.export import OPS, executed, export, to_qonnx

__all__ = ["OPS", "executed", "export", "to_qonnx"]
