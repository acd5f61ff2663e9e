"""Moves an activation of codes into the layer in front of it."""

from __future__ import annotations

import numpy as np

from subbyte.errors import GraphError
from subbyte.ir import Graph, Node
from subbyte.ir.activations import CLAMP_ACTIVATIONS
from subbyte.ir.graph import producers, rebuild
from subbyte.ir.ops import is_plain
from subbyte.passes.dataflow import only_consumers
from subbyte.quant.requant import clamp_bounds


def fuse_table(graph: Graph) -> Graph:
    """Requires nothing. Ensures: no table activation is the only consumer of a plain layer of 8-bit codes.

    Plain: act none, no residual, codes on a grid without levels. That grid becomes the pre-activation grid
    of the layer, and the table its table: the same integers (docs/spec/numerics.md, "conv2d, linear", 3). A
    clamp is fused where its table is the layer's own clamp on the same grid. The fused node keeps the
    layer's name and makes the activation's output.
    """
    producer, only = producers(graph), only_consumers(graph)
    fused: dict[str, Node] = {}  # by the name of what it stands for
    for node in graph.nodes:
        before = producer.get(node.inputs[0])
        if node.op == "activation" and before is not None and before.output in only:
            attrs = _attributes(graph, before, node)
            if attrs is not None:
                table = {} if node.attrs["act"] in CLAMP_ACTIVATIONS else {"table": node.params["table"]}
                params = {**before.params, **table}
                fused[before.name] = before.with_(output=node.output, attrs=attrs, params=params)
                fused[node.name] = fused[before.name]
    gone = {name for name, node in fused.items() if name == node.name}
    return rebuild(graph, [fused.get(node.name, node) for node in graph.nodes if node.name not in gone])


def _attributes(graph: Graph, layer: Node, activation: Node) -> dict[str, object] | None:
    """Of the fused node; None where it would make other codes."""
    pre, y, act = graph.value(layer.output).q, graph.value(activation.output).q, activation.attrs["act"]
    if pre is None or y is None or not is_plain(layer) or pre.bits != 8 or pre.levels is not None:
        return None
    if act not in CLAMP_ACTIVATIONS:
        grid = {"pre_scale": pre.scale, "pre_zero": pre.zero_point}
        return {**layer.attrs, "act": act, **grid}
    try:
        low, high = clamp_bounds(act, y)
    except GraphError:
        return None
    same = pre == y and np.array_equal(activation.params["table"], np.clip(np.arange(256), low, high))  # type: ignore[arg-type]
    return {**layer.attrs, "act": act} if same else None
