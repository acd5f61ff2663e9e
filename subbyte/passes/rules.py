"""What passes require of a graph and ensure of it, as predicates that the runner evaluates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from subbyte.ir import CLAMP_ACTIVATIONS, Graph, Node, ops
from subbyte.ir.graph import producers
from subbyte.passes.dataflow import is_plain, only_consumers


@dataclass(frozen=True)
class Rule:
    """text: what is so in a graph for which `holds`; it completes "pass x requires that"."""

    text: str
    holds: Callable[[Graph], bool]


def _all_contribute(graph: Graph) -> bool:
    needed = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node.output not in needed:
            return False
        needed.update(node.inputs)
    return True


def _plain_before(graph: Graph, op: str) -> Iterator[Node]:
    """The plain conv2d and linear nodes that nothing reads but one node of kind `op`."""
    producer, only = producers(graph), only_consumers(graph)
    for value, reader in only.items():
        before = producer.get(value)
        if reader.op == op and before is not None and is_plain(graph, before):
            yield before


def _no_tables_behind_layers(graph: Graph) -> bool:
    producer, only = producers(graph), only_consumers(graph)
    for value, reader in only.items():
        before, q = producer.get(value), graph.value(value).q
        if reader.op != "activation" or before is None or q is None or q.bits != 8 or q.levels is not None:
            continue
        if ops.is_plain(before) and reader.attrs["act"] not in CLAMP_ACTIVATIONS:
            return False
    return True


FLOAT32 = Rule("every value is float32", lambda graph: all(v.q is None for v in graph.values.values()))
NO_DEAD_NODES = Rule("every node contributes to an output", _all_contribute)
NO_BATCH_NORM = Rule(
    "no node is a batch_norm", lambda graph: all(node.op != "batch_norm" for node in graph.nodes)
)
ACTIVATIONS_FUSED = Rule(
    "no activation is the only consumer of a plain conv2d or linear",
    lambda graph: not any(_plain_before(graph, "activation")),
)
TABLES_FUSED = Rule(
    "no activation with a table of its own is the only consumer of a plain layer of 8-bit codes",
    _no_tables_behind_layers,
)
RESIDUALS_FUSED = Rule(
    "no add reads a plain conv2d that nothing else reads",
    lambda graph: all(node.op != "conv2d" for node in _plain_before(graph, "add")),
)
