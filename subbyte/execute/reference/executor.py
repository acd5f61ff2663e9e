"""Runs a graph node by node on a batch. docs/spec/numerics.md in code."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from subbyte.execute.images import checked
from subbyte.execute.reference.ops import OPS
from subbyte.execute.reference.step import Step
from subbyte.ir import Graph, Node, verify


@dataclass(frozen=True)
class Prepared:
    """A verified graph; there is nothing else to prepare."""

    graph: Graph

    def run(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """See subbyte.execute.Prepared."""
        return run(self.graph, x)


def prepare(graph: Graph) -> Prepared:
    """The graph, ready to run. Raises GraphError if it breaks a rule."""
    return Prepared(verify(graph))


def run(graph: Graph, x: np.ndarray, *, keep: bool = False) -> dict[str, np.ndarray]:
    """Executes `graph` on x, float32 [N, H, W, C].

    Returns the outputs by value name (every value if `keep`): float32 arrays, or uint8 codes for
    quantized values, each with a leading batch dimension.

    Raises InputError if x has another shape or dtype than the graph's input, or is not finite.
    """
    values: dict[str, np.ndarray] = {graph.input: checked(graph, x)}
    for node in graph.nodes:
        arrays = [values[name] for name in node.inputs]
        values[node.output] = run_node(graph, node, arrays)
    return values if keep else {name: values[name] for name in graph.outputs}


def run_node(graph: Graph, node: Node, arrays: list[np.ndarray]) -> np.ndarray:
    """One node on arrays with a leading batch dimension: float32, or uint8 codes."""
    return OPS[node.op].run(step_of(graph, node), arrays)


def step_of(graph: Graph, node: Node) -> Step:
    """What the node's operation is given besides its inputs."""
    return Step(node, [graph.value(name) for name in node.inputs], graph.value(node.output))
