"""What layers sum up to on images: the ranges of grids that a format asks for and a graph lacks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from subbyte.execute.native import Session
from subbyte.exporters.grids import Ranges
from subbyte.ir import Graph, Node, Value, is_weighted
from subbyte.quant import QTensor


def observe_ranges(graph: Graph, images: Iterable[np.ndarray]) -> Ranges:
    """Low and high of the sums of every quantized layer with a residual or a float32 output, by its output.

    images: float32 [N, H, W, C] arrays, preprocessed, one or more. The engine runs them, and each such layer
    once more without its residual. InputError as `Session` and its `run`.
    """
    twins = {node.output: _twin(graph, node) for node in graph.nodes if _is_wanted(graph, node)}
    if not twins:
        return {}
    values = {**graph.values, **{n.output: Value(n.output, graph.value(y).shape) for y, n in twins.items()}}
    outputs = tuple(node.output for node in twins.values())
    session = Session(replace(graph, outputs=outputs, values=values, nodes=(*graph.nodes, *twins.values())))
    ends = []
    for batch in images:
        sums = session.run(batch)
        ends.append([(float(s.min()), float(s.max())) for s in (sums if len(twins) > 1 else (sums,))])
    lows, highs = np.array(ends).min(axis=0)[:, 0], np.array(ends).max(axis=0)[:, 1]
    return {name: (low, high) for name, low, high in zip(twins, lows.tolist(), highs.tolist(), strict=True)}


def _is_wanted(graph: Graph, node: Node) -> bool:
    coded = is_weighted(node) and isinstance(node.params["weight"], QTensor)
    return coded and (len(node.inputs) == 2 or graph.value(node.output).q is None)


def _twin(graph: Graph, node: Node) -> Node:
    """The layer's sums alone, real numbers."""
    name = f"{node.output}/sum"
    while name in graph.values or any(name == other.name for other in graph.nodes):
        name += "_"
    return node.with_(name=name, inputs=node.inputs[:1], output=name, attrs={**node.attrs, "act": "none"})
