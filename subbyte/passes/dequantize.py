"""From a quantized graph back to real numbers: the float network that its weights stand for."""

from __future__ import annotations

import numpy as np

from subbyte.ir import OPS, Graph, Kind, Node, Value, verify
from subbyte.ir.graph import rebuild
from subbyte.quant import QTensor

_QUANTIZED_ONLY = ("pre_scale", "pre_zero")


def dequantize_graph(graph: Graph) -> Graph:
    """The float graph with the same topology and the dequantized weights and biases.

    Requires a valid graph. Ensures: every value is float32; the nodes that only change grids
    (quantize, dequantize, activation "none") are gone; activations are computed as functions, not
    by tables; nothing is clamped to a grid. float16 layers stay. A float graph is returned as it is.

    Raises GraphError if two outputs differ only in their grid, so that they would become one.
    """
    renamed: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        inputs = tuple(renamed.get(name, name) for name in node.inputs)
        if _changes_grid_only(graph, node):
            renamed[node.output] = inputs[0]
        else:
            nodes.append(_float_node(graph, node).with_(inputs=inputs))
    values = {name: Value(name, value.shape) for name, value in graph.values.items()}
    outputs = tuple(renamed.get(name, name) for name in graph.outputs)
    result = Graph(graph.input, outputs, values, tuple(nodes))
    return verify(rebuild(result, nodes))


def _changes_grid_only(graph: Graph, node: Node) -> bool:
    if OPS[node.op].kind is Kind.GRID:
        return True
    quantized = graph.value(node.output).q is not None
    return node.op == "activation" and node.attrs["act"] == "none" and quantized


def _float_node(graph: Graph, node: Node) -> Node:
    attrs = {key: value for key, value in node.attrs.items() if key not in _QUANTIZED_ONLY}
    return node.with_(attrs=attrs, params=real_params(graph, node))


def real_params(graph: Graph, node: Node) -> dict[str, np.ndarray | QTensor]:
    """The parameters of a node of a quantized graph as real numbers, float32 where they were codes, without
    those that only codes need."""
    params = {role: param for role, param in node.params.items() if role != "table"}
    x = graph.value(node.inputs[0]).q
    if isinstance(weight := params.get("weight"), QTensor) and x is not None:
        unit = np.float64(x.scale) * weight.scale.astype(np.float64)
        bias = params["bias"]
        assert isinstance(bias, np.ndarray)
        params |= {"weight": weight.dequantize(), "bias": (bias * unit).astype(np.float32)}
    return params
