"""How far a float32 executor may be from the reference: docs/spec/numerics.md, last section, in code.

Forward error analysis (Higham, Accuracy and Stability of Numerical Algorithms, chapter 3), one bound
per element; each operation's is in its row. For a whole network the bounds grow with every layer, so
networks are compared layer by layer, from equal inputs; `run_with_bounds` is for graphs of a few layers.
"""

from __future__ import annotations

import numpy as np

from subbyte.errors import GraphError
from subbyte.execute.reference.executor import run_node, step_of
from subbyte.execute.reference.ops import OPS
from subbyte.ir import Graph, Node

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
    row = OPS[node.op]
    quantized = any(graph.value(name).q is not None for name in (*node.inputs, node.output))
    if row.bound is None or quantized:
        raise GraphError(f"node {node.name!r} ({node.op}): quantized values must be equal, not close")
    errors = [np.zeros(a.shape) for a in arrays] if errors is None else errors
    bound = row.bound(step_of(graph, node), arrays, errors)
    return np.asarray(bound, np.float64) * _SLACK
