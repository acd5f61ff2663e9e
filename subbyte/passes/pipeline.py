"""The standard pipeline: a table of passes, and the runner that holds each to what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from subbyte.errors import GraphError
from subbyte.ir import Graph, verify
from subbyte.passes.drop_dead_nodes import drop_dead_nodes
from subbyte.passes.fold_batch_norm import fold_batch_norm
from subbyte.passes.fuse_activation import fuse_activation
from subbyte.passes.fuse_residual import fuse_residual
from subbyte.passes.fuse_table import fuse_table
from subbyte.passes.rules import (
    ACTIVATIONS_FUSED,
    FLOAT32,
    NO_BATCH_NORM,
    NO_DEAD_NODES,
    RESIDUALS_FUSED,
    TABLES_FUSED,
    Rule,
)


@dataclass(frozen=True)
class Pass:
    """A rewrite Graph -> Graph that keeps the meaning of every output, and is idempotent.

    requires: what holds of every graph that it is given. ensures: what then holds of its result.
    """

    run: Callable[[Graph], Graph]
    requires: tuple[Rule, ...] = ()
    ensures: tuple[Rule, ...] = ()

    @property
    def name(self) -> str:
        """The name of its function."""
        return self.run.__name__


STANDARD = (
    Pass(drop_dead_nodes, ensures=(NO_DEAD_NODES,)),
    Pass(fold_batch_norm, (FLOAT32,), (NO_BATCH_NORM,)),
    Pass(fuse_activation, (FLOAT32,), (ACTIVATIONS_FUSED,)),
    Pass(fuse_residual, (FLOAT32, ACTIVATIONS_FUSED), (RESIDUALS_FUSED,)),
)
#: Of networks that are quantized when they are imported.
QUANTIZED = (
    Pass(drop_dead_nodes, ensures=(NO_DEAD_NODES,)),
    Pass(fuse_table, ensures=(TABLES_FUSED,)),
)


def apply(graph: Graph, passes: Iterable[Pass]) -> Graph:
    """Runs `passes` in order.

    Raises GraphError, naming the pass, if the graph breaks what one requires, or if one leaves an
    invalid graph or one that breaks what it ensures.
    """
    verify(graph)
    for step in passes:
        _check(graph, step.requires, f"pass {step.name} requires that")
        graph = step.run(graph)
        try:
            verify(graph)
        except GraphError as error:
            raise GraphError(f"after pass {step.name}: {error}") from None
        _check(graph, step.ensures, f"pass {step.name} is to ensure that")
    return graph


def _check(graph: Graph, rules: tuple[Rule, ...], subject: str) -> None:
    for rule in rules:
        if not rule.holds(graph):
            raise GraphError(f"{subject} {rule.text}, but that is not so")


def optimize(graph: Graph) -> Graph:
    """The captured float32 graph, folded and fused: what compression starts from.

    Raises GraphError if the graph is invalid or already quantized.
    """
    quantized = [value.name for value in graph.values.values() if value.q is not None]
    if quantized:
        raise GraphError(f"optimize needs a float32 graph, but value {quantized[0]!r} is quantized")
    return apply(graph, STANDARD)
