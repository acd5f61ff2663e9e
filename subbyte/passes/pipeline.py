"""The standard pipeline: a table of passes, and the runner that verifies after each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from subbyte.errors import GraphError
from subbyte.ir import Graph, verify
from subbyte.passes.drop_dead_nodes import drop_dead_nodes
from subbyte.passes.fold_batch_norm import fold_batch_norm
from subbyte.passes.fuse_activation import fuse_activation
from subbyte.passes.fuse_residual import fuse_residual


@dataclass(frozen=True)
class Pass:
    """A rewrite Graph -> Graph that keeps the meaning of every output, and is idempotent."""

    name: str
    run: Callable[[Graph], Graph]
    requires: str
    ensures: str


STANDARD = (
    Pass("drop_dead_nodes", drop_dead_nodes, "a verified graph", "every node contributes to an output"),
    Pass("fold_batch_norm", fold_batch_norm, "float32 values", "no batch_norm"),
    Pass(
        "fuse_activation",
        fuse_activation,
        "float32 values",
        "no activation is the only consumer of a plain conv2d or linear",
    ),
    Pass(
        "fuse_residual",
        fuse_residual,
        "float32 values, activations fused",
        "no add reads a plain conv2d that nothing else reads",
    ),
)


def apply(graph: Graph, passes: Iterable[Pass]) -> Graph:
    """Runs `passes` in order. GraphError, naming the pass, if one leaves an invalid graph."""
    verify(graph)
    for step in passes:
        graph = step.run(graph)
        try:
            verify(graph)
        except GraphError as error:
            raise GraphError(f"after pass {step.name}: {error}") from None
    return graph


def optimize(graph: Graph) -> Graph:
    """The captured float32 graph, folded and fused: what compression starts from.

    Raises GraphError if the graph is invalid or already quantized.
    """
    quantized = [value.name for value in graph.values.values() if value.q is not None]
    if quantized:
        raise GraphError(f"optimize needs a float32 graph, but value {quantized[0]!r} is quantized")
    return apply(graph, STANDARD)
