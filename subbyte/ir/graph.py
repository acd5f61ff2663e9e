"""Graph, Node and Value: plain, frozen data. Passes are functions elsewhere, never methods here.

Shapes are per image, channels last: (H, W, C) for maps, (C,) for vectors. The batch dimension is
not part of a graph. Weights are part of their node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from subbyte.errors import GraphError
from subbyte.quant import Format, QParams, QTensor
from subbyte.quant.format import FP16, FP32

Param = np.ndarray | QTensor


@dataclass(frozen=True)
class Value:
    """What flows along an edge: its per-image shape, and its grid (None: float32)."""

    name: str
    shape: tuple[int, ...]
    q: QParams | None = None

    @property
    def dtype(self) -> str:
        """ "uint8" for codes, else "float32"."""
        return "float32" if self.q is None else "uint8"

    @property
    def grid(self) -> QParams:
        """The grid of a value that is known to hold codes."""
        assert self.q is not None
        return self.q


@dataclass(frozen=True, eq=False)
class Node:
    """One operation. `name` is unique in the graph; `attrs` are JSON-plain; `params` are tensors."""

    name: str
    op: str
    inputs: tuple[str, ...]
    output: str
    attrs: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Param] = field(default_factory=dict)

    def with_(self, **changes: Any) -> Node:
        """A copy with fields replaced."""
        return replace(self, **changes)


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in execution order, over single-assignment values.

    input: name of the one image input; outputs: names, in the model's order.
    """

    input: str
    outputs: tuple[str, ...]
    values: Mapping[str, Value]
    nodes: tuple[Node, ...]

    def node(self, name: str) -> Node:
        """The node called `name`. GraphError if there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise GraphError(f"the graph has no node {name!r}")

    def value(self, name: str) -> Value:
        """The value called `name`. GraphError if there is none."""
        try:
            return self.values[name]
        except KeyError:
            raise GraphError(f"the graph has no value {name!r}") from None


def producers(graph: Graph) -> dict[str, Node]:
    """Value name to the node that makes it."""
    return {node.output: node for node in graph.nodes}


def consumers(graph: Graph) -> dict[str, list[Node]]:
    """Value name to the nodes that read it, in order."""
    result: dict[str, list[Node]] = {name: [] for name in graph.values}
    for node in graph.nodes:
        for name in node.inputs:
            result[name].append(node)
    return result


def rebuild(graph: Graph, nodes: Iterable[Node]) -> Graph:
    """The graph over `nodes`, keeping only the values that are still used."""
    kept = tuple(nodes)
    used = {graph.input, *(n.output for n in kept), *graph.outputs}
    return replace(graph, nodes=kept, values={k: v for k, v in graph.values.items() if k in used})


def pre_activation(node: Node, output: Value) -> QParams | None:
    """The grid that a quantized conv2d or linear requantizes its accumulator to.

    The 8-bit pre-activation grid where a table follows, else the output's grid (None: float32).
    """
    if "pre_scale" in node.attrs:
        return QParams(float(node.attrs["pre_scale"]), int(node.attrs["pre_zero"]), 8)
    return output.q


def weights_of(node: Node) -> Format | None:
    """The format of a node's weights, None without any."""
    weight = node.params.get("weight")
    if weight is None or isinstance(weight, QTensor):
        return None if weight is None else weight.format
    return FP16 if weight.dtype == "float16" else FP32
