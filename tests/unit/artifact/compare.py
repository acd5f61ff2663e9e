"""Equality of artifacts, field by field and bit by bit."""

from __future__ import annotations

import numpy as np

from subbyte.artifact import Artifact
from subbyte.ir import Graph, Node, Param
from subbyte.quant import QTensor


def _same(a: object, b: object, fields: tuple[str, ...]) -> bool:
    return all(getattr(a, field) == getattr(b, field) for field in fields)


def same_array(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal dtype, shape and bits (so that -0.0 differs from 0.0)."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def same_param(a: Param, b: Param) -> bool:
    if isinstance(a, QTensor) and isinstance(b, QTensor):
        fields = ((a.codes, b.codes), (a.scale, b.scale), (a.levels, b.levels))
        return a.bits == b.bits and all(same_array(x, y) for x, y in fields)
    return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and same_array(a, b)


def same_node(a: Node, b: Node) -> bool:
    if not _same(a, b, ("name", "op", "inputs", "output", "attrs")) or set(a.params) != set(b.params):
        return False
    types = all(type(a.attrs[key]) is type(b.attrs[key]) for key in a.attrs)
    return types and all(same_param(a.params[role], b.params[role]) for role in a.params)


def same_graph(a: Graph, b: Graph) -> bool:
    edges = _same(a, b, ("input", "outputs", "values")) and len(a.nodes) == len(b.nodes)
    return edges and all(map(same_node, a.nodes, b.nodes))


def same_artifact(a: Artifact, b: Artifact) -> bool:
    rest = _same(a, b, ("recipe", "preprocessing", "classes", "provenance", "coding"))
    return rest and same_graph(a.graph, b.graph)
