"""Executors: one graph, several implementations of docs/spec/numerics.md, behind one contract.

    prepared = EXECUTORS["torch"].prepare(graph)
    outputs = prepared.run(x)

Codes are the same integers from every executor; float32 outputs agree as `Executor.floats` says.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from subbyte.ir import Graph


class Prepared(Protocol):
    """A graph, ready to run any number of times."""

    def run(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs by value name: uint8 codes or float32, channels last, batch first.

        x: float32 [N, H, W, C] or [N, C], as the graph's input asks for; N may be 0.
        Raises InputError if x has another shape or dtype, or holds NaN or infinity.
        """
        ...


@dataclass(frozen=True)
class Executor:
    """A row of the table.

    home: the module, imported when it is first used, with `prepare(graph, **options) -> Prepared`, which
    raises GraphError for a graph that breaks a rule or needs an op that the executor lacks, and with `OPS`,
    the names of the ops it runs; every other one is in `OpDef.lacks` under the executor's name.
    needs: the modules that have to be there. floats: how its float32 values relate to the reference's:
    "equal", or "within bounds" of reference.bounds.
    """

    name: str
    home: str
    needs: tuple[str, ...]
    floats: Literal["equal", "within bounds"]

    @property
    def ops(self) -> Collection[str]:
        """The names of the ops it runs."""
        ops: Collection[str] = importlib.import_module(self.home).OPS
        return ops

    def prepare(self, graph: Graph, **options: Any) -> Prepared:
        """The graph, ready to run. options: torch's device; what a Session takes."""
        prepared: Prepared = importlib.import_module(self.home).prepare(graph, **options)
        return prepared


EXECUTORS: dict[str, Executor] = {
    row.name: row
    for row in (
        Executor("reference", "subbyte.execute.reference.executor", ("numpy",), "equal"),
        Executor("torch", "subbyte.execute.torch.executor", ("torch",), "within bounds"),
        Executor("native", "subbyte.execute.native.executor", ("subbyte._native",), "within bounds"),
    )
}
