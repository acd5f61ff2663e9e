"""The engine behind the contract of executors: codes where `Session` gives the numbers they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from subbyte.execute.images import checked
from subbyte.execute.native.ops import OPS as OPS
from subbyte.execute.native.session import Session
from subbyte.ir import Graph, Value


@dataclass(frozen=True)
class Prepared:
    """A session, and the graph that it runs, without parameters."""

    session: Session

    def run(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """See subbyte.execute.Prepared."""
        graph = self.session.graph
        images = checked(graph, x)
        values = [graph.value(name) for name in graph.outputs]
        if len(images) == 0:
            return {value.name: np.zeros((0, *value.shape), value.dtype) for value in values}
        result = self.session.run(images)
        arrays = result if isinstance(result, tuple) else (result,)
        return {value.name: _stored(value, array) for value, array in zip(values, arrays, strict=True)}


def _stored(value: Value, real: np.ndarray) -> np.ndarray:
    """A real number of a grid is less than half a step away from its code, so that rounding finds it."""
    return real if value.q is None else value.q.quantize(real)


def prepare(graph: Graph, **options: Any) -> Prepared:
    """The graph, loaded into a session; `options` are the session's. Raises what Session raises."""
    return Prepared(Session(graph, **options))
