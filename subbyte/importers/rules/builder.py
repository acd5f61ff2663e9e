"""What rules write into: a growing graph."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from subbyte.importers.rules.problems import Site
from subbyte.ir import OPS, Graph, Node, Param, Value, verify
from subbyte.passes import drop_dead_nodes
from subbyte.quant import QParams, QTensor


class Rejected(Exception):
    """Why an operator, or the way it is used, has no counterpart in the graph.

    origin: the operator to name instead, where a result of its is read by one that cannot.
    """

    def __init__(self, reason: str, origin: Site | None = None) -> None:
        super().__init__(reason)
        self.origin = origin


class Nodes:
    """Collects nodes. `path` is the module being translated; it names the nodes that are emitted.

    names: what values are called in the graph, once it is finished.
    """

    def __init__(self, shape: tuple[int, int, int], containers: frozenset[str]) -> None:
        self.input = "input"
        self.values = {self.input: Value(self.input, shape)}
        self.producers: dict[str, Node] = {}
        self.path = ""
        self.names: dict[str, str] = {}
        self._containers = containers  # paths of modules with children: their own operators get a suffix
        self._flat: dict[str, str] = {}
        self._maps: dict[str, str] = {}

    def shape(self, value: str) -> tuple[int, ...]:
        """Of a value, per image, channels last."""
        return self.values[value].shape

    @property
    def again(self) -> Mapping[str, str]:
        """Values of vectors to those that do the same on 1x1 maps, where such were needed."""
        return self._maps

    def _stand_in(self, shape: tuple[int, ...]) -> str | None:
        """A value in place of a result of torch's `shape`; None if no value has that shape."""
        if len(shape) not in (2, 4) or shape[0] != 1 or not all(isinstance(n, int) for n in shape):
            return None
        name = f"?{len(self.values)}"
        self.values[name] = Value(name, (*shape[2:], shape[1]) if len(shape) == 4 else (1, 1, shape[1]))
        return name

    def emit(
        self,
        op: str,
        inputs: Sequence[str],
        attrs: Mapping[str, Any] | None = None,
        params: Mapping[str, Param] | None = None,
        name: str | None = None,
        q: QParams | None = None,
    ) -> str:
        """Adds a node and returns its value, on the grid q. GraphError if the op's shape rule refuses it.

        Without q the value is float32, or on the grid of its first input where the op keeps that.
        """
        output = f"%{len(self.producers)}"
        node = Node(name or self._name(op), op, tuple(inputs), output, attrs or {}, params or {})
        if q is None and OPS[op].keeps_grid:
            q = self.values[inputs[0]].q
        self.values[output] = Value(output, OPS[op].shape(node, [self.shape(v) for v in inputs]), q)
        self.producers[output] = node
        return output

    def _name(self, op: str) -> str:
        if self.path and self.path not in self._containers:
            return self.path
        return f"{self.path}.{op}" if self.path else op

    def beside(self, name: str) -> str:
        """A name for a node that an operator needs beside its own."""
        return f"{self.path}.{name}" if self.path else name

    def reshaped(self, value: str, size: tuple[int, ...]) -> str:
        """The elements of a value, in their order, as another of `size`, (H, W, C) or (C,)."""
        if self.shape(value) == size:
            return value
        if len(size) == 1:
            return self.emit("flatten", [value], name=self.beside("flatten"))
        attrs = {"dims": [math.prod(size)], "perm": [0], "size": list(size)}
        return self.emit("rearrange", [value], attrs, name=self.beside("rearrange"))

    def on_maps(self, node: Node, inputs: Sequence[str]) -> str:
        """A node on vectors once more, on (1, 1, C) maps; a linear layer becomes a 1 x 1 convolution."""
        op, attrs, params = node.op, node.attrs, node.params
        if op == "linear":
            op, attrs = "conv2d", {**attrs, "stride": [1, 1], "pad": [0, 0, 0, 0], "groups": 1}
            params = {**params, "weight": _as_kernel(params["weight"])}
        return self.emit(op, inputs, attrs, params, name=node.name, q=self.values[node.output].q)

    def finish(self, outputs: Sequence[str]) -> Graph:
        """The verified graph without dead nodes; nodes have unique names, values their node's."""
        nodes = tuple(self.producers.values())
        graph = drop_dead_nodes(Graph(self.input, tuple(outputs), self.values, nodes))
        final = {self.input: self.input}
        for node in graph.nodes:
            final[node.output] = _unique(node.name, set(final.values()))
        self.names = final
        return verify(
            Graph(
                self.input,
                tuple(final[name] for name in graph.outputs),
                {final[name]: replace(value, name=final[name]) for name, value in graph.values.items()},
                tuple(
                    node.with_(
                        name=final[node.output],
                        inputs=tuple(final[name] for name in node.inputs),
                        output=final[node.output],
                    )
                    for node in graph.nodes
                ),
            )
        )


def _as_kernel(weight: Param) -> Param:
    """The weights of a linear layer, [O, I], as those of a 1x1 convolution, [O, 1, 1, I]."""
    if isinstance(weight, QTensor):
        return replace(weight, codes=weight.codes[:, None, None, :])
    return weight[:, None, None, :]


def _unique(name: str, taken: set[str]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        candidate, count = f"{name}_{count}", count + 1
    return candidate
