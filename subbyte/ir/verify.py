"""The rules a graph obeys. Run after every pass, before writing and after reading a file.

Nothing about the graph is trusted, not even the types of its fields: whatever is wrong is a
GraphError, and a graph that passes cannot make an executor read or write out of bounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from subbyte.errors import GraphError
from subbyte.ir.graph import Graph, Node, Value
from subbyte.ir.grid_rules import fail
from subbyte.ir.limits import (
    MAX_ELEMENTS,
    MAX_EXTENT,
    MAX_LIVE_BYTES,
    MAX_NAME,
    MAX_NODES,
    MAX_PARAMETERS,
    MAX_WORK,
    peak_live_bytes,
)
from subbyte.ir.ops import ATTRS, OPS, Kind, OpDef, is_plain, work
from subbyte.quant import QParams, QTensor


def verify(graph: Graph) -> Graph:
    """Returns the graph unchanged, or raises GraphError naming the first broken rule.

    Rules: single assignment in execution order; known ops with their arity, attributes and
    parameters; shapes that follow; grids where an op needs them and nowhere else; finite
    parameters; accumulators that cannot leave 31 bits; the bounds of subbyte.ir.limits.
    """
    _verify_types(graph)
    _verify_value(graph.value(graph.input))
    if graph.value(graph.input).q is not None:
        raise GraphError("the graph's input must be float32")
    known, names = {graph.input}, set()
    for node in graph.nodes:
        if node.name in names:
            raise GraphError(f"two nodes are called {node.name!r}")
        names.add(node.name)
        if node.output in known:
            fail(node, f"value {node.output!r} is assigned twice")
        for name in node.inputs:
            if name not in known:
                fail(node, f"reads {name!r}, which no earlier node makes")
        _verify_node(graph, node)
        known.add(node.output)
    if not graph.outputs or len(set(graph.outputs)) != len(graph.outputs):
        raise GraphError("a graph needs at least one output, each named once")
    for name in graph.outputs:
        if name not in known or name == graph.input:
            raise GraphError(f"output {name!r} is made by no node")
    if set(graph.values) != known:
        raise GraphError(f"values without a producer: {sorted(set(graph.values) - known)[:3]}")
    check_budget(graph)
    return graph


def _is_name(name: object) -> bool:
    return isinstance(name, str) and 1 <= len(name) <= MAX_NAME and name.isprintable()


def _verify_types(graph: Graph) -> None:
    """The container types and names, so that the rules below can rely on them."""
    if not (isinstance(graph.outputs, tuple) and isinstance(graph.nodes, tuple)):
        raise GraphError("a graph's outputs and nodes must be tuples")
    if len(graph.nodes) > MAX_NODES:
        raise GraphError(f"the graph has {len(graph.nodes)} nodes; at most {MAX_NODES} are supported")
    if not isinstance(graph.values, Mapping):
        raise GraphError("a graph's values must be a mapping from name to Value")
    names = [graph.input, *graph.outputs, *graph.values]
    for node in graph.nodes:
        if not isinstance(node, Node) or not isinstance(node.inputs, tuple):
            raise GraphError("a graph's nodes must be Nodes with a tuple of input names")
        names += [node.name, node.output, *node.inputs]
        if not (isinstance(node.op, str) and isinstance(node.attrs, Mapping)):
            raise GraphError(f"node {node.name!r}: op must be a string and attrs a mapping")
        if not isinstance(node.params, Mapping):
            raise GraphError(f"node {node.name!r}: params must be a mapping")
    for name in names:
        if not _is_name(name):
            raise GraphError(f"name {name!r:.80} is not 1..{MAX_NAME} printable characters")
    for name, value in graph.values.items():
        if not isinstance(value, Value) or not isinstance(value.name, str) or value.name != name:
            raise GraphError(f"value {name!r} is stored under another name than its own")


def _verify_value(value: Value) -> None:
    shape = value.shape
    ints = isinstance(shape, tuple) and all(type(n) is int for n in shape)
    if not ints or len(shape) not in (1, 3) or not all(1 <= n <= MAX_EXTENT for n in shape):
        raise GraphError(
            f"value {value.name!r}: shape {shape!r:.80} is not (H, W, C) or (C,) of ints in 1..{MAX_EXTENT}"
        )
    if math.prod(shape) > MAX_ELEMENTS:
        raise GraphError(f"value {value.name!r}: {shape} has more than {MAX_ELEMENTS} elements")
    if value.q is not None and not isinstance(value.q, QParams):
        raise GraphError(f"value {value.name!r}: its grid must be QParams or None")


def _verify_node(graph: Graph, node: Node) -> None:
    op = OPS.get(node.op)
    if op is None:
        raise GraphError(f"node {node.name!r}: unknown op {node.op!r:.80}; known: {', '.join(OPS)}")
    if not op.arity[0] <= len(node.inputs) <= op.arity[1]:
        fail(node, f"has {len(node.inputs)} inputs, needs {op.arity[0]}..{op.arity[1]}")
    _verify_fields(node, op)
    inputs, output = [graph.value(n) for n in node.inputs], graph.value(node.output)
    _verify_value(output)
    shape = op.shape(node, [v.shape for v in inputs])
    if shape != output.shape:
        fail(node, f"makes shape {shape}, but its output says {output.shape}")
    if op.kind is not Kind.GRID:
        _verify_grids(node, op, inputs, output)
    _verify_levels(node, op, output)
    op.rule(node, inputs, output)


def _verify_grids(node: Node, op: OpDef, inputs: list[Value], output: Value) -> None:
    """Grids everywhere or nowhere, but where codes become sums that a float32 layer or a user reads."""
    quantized = [v.q is not None for v in inputs]
    if len(set(quantized)) != 1:
        fail(node, "mixes float32 and quantized inputs")
    if quantized[0] and not op.quantizable:
        fail(node, "cannot work on quantized values; fold it, or dequantize its inputs first")
    if not quantized[0] and output.q is not None:
        fail(node, "float32 inputs cannot make a quantized output; use quantize")
    if quantized[0] and output.q is None and not is_plain(node):
        fail(node, "only a conv2d or linear without activation and residual may turn codes into float32")
    if quantized[0] and op.keeps_grid and any(v.q != output.q for v in inputs):
        fail(node, "must keep the grid of its inputs")


def _verify_levels(node: Node, op: OpDef, output: Value) -> None:
    """Levels come out of tables, and out of what keeps the grid of its inputs."""
    if output.q is None or output.q.levels is None or op.keeps_grid:
        return
    if "table" not in op.optional or len(node.inputs) > 1:
        fail(node, "cannot make levels, which need a table behind it; its output's grid must be plain")


def _verify_fields(node: Node, op: OpDef) -> None:
    """Attributes and parameters: which there are, their types, and that they are finite."""
    have = {*node.attrs, *node.params}
    missing = {*op.attrs, *op.params} - have
    extra = have - {*op.attrs, *op.params, *op.optional}
    if missing or extra:
        fail(node, f"missing {sorted(missing)}, unexpected {sorted(map(str, extra))[:5]}")
    for name, attr in node.attrs.items():
        if name not in ATTRS:
            fail(node, f"{name} must be a parameter, not an attribute")
        if not ATTRS[name].accepts(attr):
            fail(node, f"{name} must be {ATTRS[name].what}, got {attr!r:.80}")
    for role, param in node.params.items():
        if role in ATTRS:
            fail(node, f"{role} must be an attribute, not a parameter")
        if not isinstance(param, (np.ndarray, QTensor)):
            fail(node, f"{role} must be a numpy array or a QTensor, got {type(param).__name__}")
        if isinstance(param, np.ndarray) and param.dtype.kind == "f" and not np.isfinite(param).all():
            fail(node, f"{role} holds NaN or infinity; the weights are damaged")


def check_budget(graph: Graph) -> None:
    """GraphError if the whole (otherwise valid) graph costs more than subbyte.ir.limits allows."""
    parameters = sum(math.prod(p.shape) for node in graph.nodes for p in node.params.values())
    if parameters > MAX_PARAMETERS:
        raise GraphError(f"the graph has {parameters} parameters; at most {MAX_PARAMETERS} are supported")
    needed = sum(work(graph).values())
    if needed > MAX_WORK:
        raise GraphError(f"the graph needs {needed} operations per image; at most {MAX_WORK} are supported")
    live = peak_live_bytes(graph)
    if live > MAX_LIVE_BYTES:
        raise GraphError(
            f"the graph keeps {live} bytes of activations alive; at most {MAX_LIVE_BYTES} are supported"
        )
