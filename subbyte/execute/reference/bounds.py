"""How far a float32 executor may be from the reference: docs/spec/numerics.md, last section, in code.

Forward error analysis (Higham, Accuracy and Stability of Numerical Algorithms, chapter 3), one bound
per element. For a whole network the bounds grow with every layer, so networks are compared layer by
layer, from equal inputs; `run_with_bounds` is for graphs of a few layers.
"""

from __future__ import annotations

import numpy as np

from subbyte.errors import GraphError
from subbyte.execute.reference.executor import run_node
from subbyte.ir import Graph, Node
from subbyte.ir.activations import parse_activation

UNIT = 2.0**-24  # half an ulp of 1

_BATCH_NORM_ROUNDINGS = 8
_SLACK = 1.0 + 2.0**-20  # for the rounding of the bounds themselves


def run_with_bounds(graph: Graph, x: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every value of a float32 graph on x [N, H, W, C], with its bound (float64, same shape)."""
    values = {graph.input: (x, np.zeros(x.shape))}
    for node in graph.nodes:
        pairs = [values[name] for name in node.inputs]
        arrays, errors = [p[0] for p in pairs], [p[1] for p in pairs]
        values[node.output] = (
            run_node(graph, node, arrays),
            float_error_bound(graph, node, arrays, errors),
        )
    return values


def float_error_bound(
    graph: Graph, node: Node, arrays: list[np.ndarray], errors: list[np.ndarray] | None = None
) -> np.ndarray:
    """Bound on |executor - reference| for each element of a float32 node's output, float64.

    arrays: the reference's inputs. errors: bounds on how far the executor's inputs are from them
    (default: equal inputs). Raises GraphError for a quantized node: those must be equal.
    """
    if any(graph.value(name).q is not None for name in (*node.inputs, node.output)):
        raise GraphError(f"node {node.name!r} ({node.op}): quantized values must be equal, not close")
    errors = [np.zeros(a.shape) for a in arrays] if errors is None else errors
    if node.op in ("conv2d", "linear"):
        bound = _layer(graph, node, arrays, errors)
    elif node.op == "batch_norm":
        bound = _batch_norm(graph, node, arrays[0], errors[0])
    elif node.op == "activation":
        result = run_node(graph, node, arrays)
        bound = _activation(node.attrs["act"], arrays[0], errors[0], result)
    elif node.op == "add":
        bound = errors[0] + errors[1] + 2 * UNIT * np.abs(arrays[0] + arrays[1])
    elif node.op == "mul":
        (x, gate), (dx, dg) = (np.abs(a).astype(np.float64) for a in arrays), errors
        bound = x * dg + gate * dx + dx * dg + 2 * UNIT * (x * gate)
    elif node.op == "global_avg_pool":
        x, terms = np.abs(arrays[0]) + errors[0], arrays[0].shape[1] * arrays[0].shape[2]
        mean = x.mean(axis=(1, 2), keepdims=True)
        bound = errors[0].mean(axis=(1, 2), keepdims=True) + _gamma(terms + 2) * mean
    else:  # they move elements; the largest error of a window may reach its maximum
        bound = run_node(graph, node, errors).astype(np.float64)
    return np.asarray(bound, np.float64) * _SLACK


def _gamma(n: int) -> float:
    return n * UNIT / (1 - n * UNIT)


def _magnitudes(node: Node, bias: bool) -> Node:
    weight, offset = np.asarray(node.params["weight"]), np.asarray(node.params["bias"])
    params = {"weight": np.abs(weight), "bias": np.abs(offset) if bias else np.zeros_like(offset)}
    return node.with_(inputs=node.inputs[:1], attrs={**node.attrs, "act": "none"}, params=params)


def _layer(graph: Graph, node: Node, arrays: list[np.ndarray], errors: list[np.ndarray]) -> np.ndarray:
    act, bare = node.attrs["act"], node.with_(attrs={**node.attrs, "act": "none"})
    pre = run_node(graph, bare, arrays[:1])
    total = run_node(graph, _magnitudes(node, bias=True), [np.abs(arrays[0]) + errors[0]])
    spread = run_node(graph, _magnitudes(node, bias=False), [errors[0]])
    terms = int(np.prod(node.params["weight"].shape[1:]))
    bound = spread + _gamma(terms + 2) * total.astype(np.float64) + UNIT * np.abs(pre)
    result = run_node(graph, node.with_(inputs=node.inputs[:1]), arrays[:1])
    bound = _activation(act, pre, bound, result)
    if len(arrays) == 2:
        bound = bound + errors[1] + 2 * UNIT * np.abs(result + arrays[1])
    return bound


def _activation(act: str, x: np.ndarray, error: np.ndarray, result: np.ndarray) -> np.ndarray:
    row, parameters = parse_activation(act)
    grown = row.slope(*parameters) * error
    return grown if row.exact else grown + 8 * UNIT * np.abs(result) + 2 * UNIT * np.abs(x)


def _batch_norm(graph: Graph, node: Node, x: np.ndarray, error: np.ndarray) -> np.ndarray:
    p = {role: np.asarray(param) for role, param in node.params.items()}
    positive = {"weight": np.abs(p["weight"]), "mean": -np.abs(p["mean"]), "bias": np.abs(p["bias"])}
    total = run_node(graph, node.with_(params={**p, **positive}), [np.abs(x) + error])
    scale = np.abs(p["weight"]) / np.sqrt(p["var"].astype(np.float64) + node.attrs["eps"])
    return scale * error + _gamma(_BATCH_NORM_ROUNDINGS) * total.astype(np.float64)
