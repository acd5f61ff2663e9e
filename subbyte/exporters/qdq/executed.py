"""What ONNX Runtime makes of a model: the operators that it executes behind its own fusions."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from subbyte.ir import Graph, Node, is_weighted
from subbyte.system.imports import peer_module

_INTEGER = ("QLinearConv", "QGemm", "QLinearMatMul")


def executed(graph: Graph, data: bytes) -> dict[str, str]:
    """For every node of the graph whose model `data` is, "int8" or "float32", as fusions leave it.

    A table behind a layer is in the layer's entry: "int8, silu in float32". InputError if onnxruntime is
    missing.
    """
    onnx, runtime = peer_module("onnx"), peer_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    # one level higher moves maps to channels-last, which renames them
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(path)
        runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(path).graph.node
    makers = {name: node for node in nodes for name in node.output}
    return {node.name: _of(makers, graph, node) for node in graph.nodes}


def _of(makers: dict[str, Any], graph: Graph, node: Node) -> str:
    y = graph.value(node.output)
    if y.q is None:
        return "int8" if makers[y.name].op_type in _INTEGER else "float32"
    behind = _arithmetic(makers, y.name)
    if is_weighted(node) and "table" in node.params:
        layer = _arithmetic(makers, f"{y.name}/pre")
        act = node.attrs["act"] if y.q.levels is None else "table"
        return layer if layer == behind else f"{layer}, {act} in {behind}"
    sums = f"{y.name}/codes"
    return _arithmetic(makers, sums if sums in makers else y.name)


def _arithmetic(makers: dict[str, Any], codes: str) -> str:
    """Of what makes codes: float32 where it has to be quantized."""
    maker = makers[codes]
    if maker.op_type == "Clip":
        maker = makers[maker.input[0]]
    return "float32" if maker.op_type == "QuantizeLinear" else "int8"
