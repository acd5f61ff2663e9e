"""What rules write into: a growing graph, and views of the importer's tensors on its values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Operand:
    """A tensor of the importer: a view on a graph value.

    shape: torch's, batch of 1 first. Reshapes only change it; whoever reads the operand decides
    how the value has to look. A map's elements are in the importer's order (`Builder.outside`), whatever
    `shape` says.
    pad: (top, bottom, left, right) of `fill` that the next sliding window has to add.
    origin: the operator that made the view, if it is one.
    """

    value: str
    shape: tuple[int, ...]
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    fill: float = 0.0
    origin: Site | None = None


class Builder(Nodes):
    """A graph, and operands on its values whose order never changes but by flattening."""

    def stand_in(self, shape: tuple[int, ...]) -> Operand | None:
        """In place of a result of torch's `shape` that no node can make; None if no value has that shape.

        Lets the operators behind it be looked at. A graph with a stand-in cannot be finished.
        """
        name = self._stand_in(shape)
        return None if name is None else Operand(name, shape)

    def plain(self, x: Operand) -> str:
        """The value, for an operator that treats every element alike."""
        if any(x.pad):
            raise Rejected("only convolution and max pooling take padding over", x.origin)
        if math.prod(x.shape) != math.prod(self.shape(x.value)):
            raise Rejected("only a channel gate (mul) may be broadcast", x.origin)
        return x.value

    def outside(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The importer's shape of a map (H, W, C), batch of 1 first: torch's."""
        return (1, shape[2], *shape[:2])

    def map(self, x: Operand) -> str:
        """The operand as a (H, W, C) value."""
        value = self.plain(x)
        shape = self.shape(value)
        if len(shape) == 3 and x.shape == self.outside(shape):
            return value
        if len(shape) == 1 and x.shape == self.outside((1, 1, *shape)):
            return self._unflatten(value)
        raise Rejected(f"a map may not be reshaped to {list(x.shape)}", x.origin)

    def flat(self, x: Operand) -> str:
        """The operand as a vector; a map's elements then are in (H, W, C) order."""
        value = self.plain(x)
        if x.shape != (1, math.prod(x.shape)):
            raise Rejected(f"it needs one vector per image, not {list(x.shape)}", x.origin)
        if len(self.shape(value)) == 1:
            return value
        if value not in self._flat:
            self._flat[value] = self.emit("flatten", [value], name=self.beside("flatten"))
        return self._flat[value]

    def vector(self, x: Operand) -> str:
        """The operand as a vector in torch's order."""
        shape = self.shape(x.value)
        if len(shape) == 3 and shape[2] > 1 and shape[0] * shape[1] > 1:
            raise Rejected("only a linear layer may read a flattened map", x.origin)
        return self.flat(x)

    def _unflatten(self, value: str) -> str:
        """The (1, 1, C) map behind a vector, where layers on vectors become layers on 1x1 maps."""
        if value in self._maps:
            return self._maps[value]
        node = self.producers[value]
        if node.op == "flatten":
            result = node.inputs[0]
            if self.shape(result)[:2] != (1, 1):
                raise Rejected("it turns a vector back into a map")
        else:
            result = self.on_maps(node, [self._unflatten(name) for name in node.inputs])
        self._maps[value] = result
        return result


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
