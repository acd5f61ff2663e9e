"""Folds batch normalization into weights (arXiv 1712.05877, section 3.2)."""

from __future__ import annotations

import numpy as np

from subbyte.errors import GraphError
from subbyte.ir import Graph, Node
from subbyte.ir.graph import producers, rebuild
from subbyte.ir.limits import MAX_PARAMETERS
from subbyte.passes.dataflow import is_plain, only_consumers, until_stable


def fold_batch_norm(graph: Graph) -> Graph:
    """Requires: float32 values. Ensures: no batch_norm node.

    A batch_norm that is the only consumer of a conv2d or linear without activation becomes part of
    its weights and bias, computed in float64 and rounded once. One that stands alone becomes a
    depthwise 1x1 conv2d on a map, and a linear with a diagonal weight on a vector. GraphError if that
    would have more weights than any graph may.
    """
    with np.errstate(all="ignore"):  # damaged statistics make non-finite weights, which the verifier refuses
        return until_stable(graph, _fold_first)


def _fold_first(graph: Graph) -> Graph | None:
    node = next((n for n in graph.nodes if n.op == "batch_norm"), None)
    if node is None:
        return None
    before = producers(graph).get(node.inputs[0])
    if before is not None and is_plain(graph, before) and before.output in only_consumers(graph):
        new = _folded(before, node)
    else:
        before, new = None, _standalone(graph, node)
    return rebuild(graph, [new if n is node else n for n in graph.nodes if n is not before])


def _affine(node: Node) -> tuple[np.ndarray, np.ndarray]:
    """The batch_norm as scale and shift per channel, float64."""
    p = {role: np.asarray(param, np.float64) for role, param in node.params.items()}
    scale = p["weight"] / np.sqrt(p["var"] + node.attrs["eps"])
    return scale, p["bias"] - p["mean"] * scale


def _folded(before: Node, node: Node) -> Node:
    scale, shift = _affine(node)
    weight = np.asarray(before.params["weight"], np.float64)
    bias = np.asarray(before.params["bias"], np.float64) * scale + shift
    weight = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    params = {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}
    return before.with_(output=node.output, params=params)


def _standalone(graph: Graph, node: Node) -> Node:
    scale, shift = (a.astype(np.float32) for a in _affine(node))
    if len(graph.value(node.output).shape) == 1:
        if scale.size**2 > MAX_PARAMETERS:
            raise GraphError(f"node {node.name!r}: a matrix of {scale.size} x {scale.size} is too large")
        params = {"weight": np.diag(scale), "bias": shift}
        return node.with_(op="linear", attrs={"act": "none"}, params=params)
    attrs = {"stride": [1, 1], "pad": [0, 0, 0, 0], "groups": scale.size, "act": "none"}
    params = {"weight": scale.reshape(-1, 1, 1, 1), "bias": shift}
    return node.with_(op="conv2d", attrs=attrs, params=params)
