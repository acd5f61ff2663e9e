"""Small valid graphs and ways to change one thing in them."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from subbyte.ir import Graph, Node, Value
from tests.fuzz.builder import Builder


def coded() -> Graph:
    """quantize, table (conv2d with a table), project (conv2d with a residual), gate, ..., logits."""
    b = Builder(random.Random(1), (8, 8, 4))
    x = b.quantize("image")
    curved = b.qconv(x, 4, (3, 3), act="silu")
    projected = b.qconv(curved, 4, residual=x)
    pooled = b.add("global_avg_pool", [projected], b.grid())
    gated = b.add("mul", [projected, pooled], b.grid())
    added = b.add("add", [gated, x], b.grid())
    active = b.qactivation(added, "gelu")
    joined = b.concat(b.max_pool(active), b.max_pool(active, 5))
    six = b.qconv(joined, 5, act="relu6", bits=4)
    vector = b.flatten(b.add("global_avg_pool", [six], b.grid()))
    return b.finish(b.qlinear(vector, 3), b.add("dequantize", [six]))


def plain() -> Graph:
    """The float ops."""
    b = Builder(random.Random(2), (6, 6, 3))
    x = b.batch_norm(b.fconv("image", 4, 3))
    y = b.add("activation", [x], None, {"act": "silu"})
    vector = b.flatten(b.add("global_avg_pool", [b.fconv(y, 4, half=True)]))
    return b.finish(b.flinear(vector, 2))


def of(graph: Graph, op: str, number: int = 0) -> Node:
    """The `number`-th node of an op."""
    return [node for node in graph.nodes if node.op == op][number]


def node(graph: Graph, which: Node, **changes: Any) -> Graph:
    """The graph with fields of one node replaced."""
    return replace(graph, nodes=tuple(n.with_(**changes) if n is which else n for n in graph.nodes))


def attr(graph: Graph, which: Node, **attrs: Any) -> Graph:
    return node(graph, which, attrs={**which.attrs, **attrs})


def param(graph: Graph, which: Node, **params: Any) -> Graph:
    return node(graph, which, params={**which.params, **params})


def without(graph: Graph, which: Node, field: str) -> Graph:
    """The graph with one attribute or parameter of a node gone."""
    attrs = {k: v for k, v in which.attrs.items() if k != field}
    return node(graph, which, attrs=attrs, params={k: v for k, v in which.params.items() if k != field})


def value(graph: Graph, name: str, /, **changes: Any) -> Graph:
    """The graph with fields of one value replaced, under its old key."""
    return replace(graph, values={**graph.values, name: replace(graph.values[name], **changes)})


def insert(graph: Graph, extra: Node, shape: tuple[int, ...], q: Any = None) -> Graph:
    """The graph with one more node at its end."""
    values = {**graph.values, extra.output: Value(extra.output, shape, q)}
    return replace(graph, nodes=(*graph.nodes, extra), values=values)
