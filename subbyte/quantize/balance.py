"""Factors for the channels of values, so that channels of very different ranges share one scale well.

Cross-layer equalization in the sense of "Data-Free Quantization through Weight Equalization and Bias
Correction" (Nagel et al., arXiv 1906.04721, section 4.1), but for activations and where no activation function
lies in between. A stream is what linear producers make and linear consumers read: the rows of its producers
(weights and bias, or the factors of a squeeze-and-excitation product) are multiplied by r, a positive number
for each channel, and the columns of its consumers' weights divided by it. The network computes the same; what
a channel's numbers mean has changed, and with it how coarsely one scale for all channels rounds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from subbyte.ir import Graph, Node, is_weighted, verify
from subbyte.ir.graph import consumers, producers
from subbyte.ir.grid_rules import MAX_CHANNEL_SCALE
from subbyte.quantize.channels import Channels

Kinds = Literal["none", "gates", "linear", "all"]
#: What leaves the factors of its input as they are, if it keeps the number of channels.
PASSES = ("add", "max_pool2d", "global_avg_pool", "flatten")


@dataclass(frozen=True)
class Stream:
    """Values that have the same factors, in order. makers: the nodes whose rows take them, layers and
    products of gates; readers: the layers whose columns do. Names all."""

    values: tuple[str, ...]
    makers: tuple[str, ...]
    readers: tuple[str, ...]


def streams(graph: Graph) -> list[Stream]:
    """The streams of a float graph, in order of their first values.

    Values that a residual or an add joins are of one stream. What an activation function makes or reads, the
    network's input and its outputs are of none, nor is anything that is joined with such.
    """
    groups = _Groups(graph)
    for node in graph.nodes:
        groups.join(node)
    read, made = consumers(graph), producers(graph)
    found = []
    for values in groups.open():
        makers = [made[name].name for name in values if is_weighted(made[name]) or made[name].op == "mul"]
        readers = {node.name: None for name in values for node in read[name] if node.inputs[0] == name}
        layers = [name for name in readers if is_weighted(graph.node(name))]
        if makers and layers:
            found.append(Stream(tuple(values), tuple(makers), tuple(layers)))
    return found


class _Groups:
    """Sets of values that have the same factors, and those that can have none."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.group = {name: [name] for name in graph.values}
        self.closed = {graph.input, *graph.outputs}

    def join(self, node: Node) -> None:
        """What a node says of its operands and its output."""
        linear = node.attrs.get("act", "none") == "none"
        residuals = node.inputs[1:]
        if is_weighted(node) and linear:
            self._unite(*residuals, node.output)
        elif is_weighted(node):
            self.closed |= {*residuals, node.output}
        elif node.op == "mul":
            self.closed |= {*node.inputs}
        elif linear and node.op in (*PASSES, "activation"):
            self._unite(*node.inputs, node.output)
        else:
            self.closed |= {*node.inputs, node.output}

    def _unite(self, *names: str) -> None:
        if len({self.graph.value(name).shape[-1] for name in names}) > 1:
            self.closed |= {*names}
            return
        for name in names[1:]:
            if self.group[name] is not self.group[names[0]]:
                joined = self.group[names[0]] + self.group[name]
                self.group.update(dict.fromkeys(joined, joined))

    def open(self) -> list[list[str]]:
        """The sets without a closed value, each in order of the graph's values."""
        order = {name: i for i, name in enumerate(self.graph.values)}
        sets = {id(group): sorted(group, key=order.__getitem__) for group in self.group.values()}
        found = [names for names in sets.values() if not self.closed.intersection(names)]
        return sorted(found, key=lambda names: order[names[0]])


def chosen_streams(graph: Graph, kinds: Kinds) -> list[Stream]:
    """The streams that are balanced: "gates", those that only products of gates feed; "linear", those that
    only layers feed; "all" of them, or none."""
    made = {node.name: node.op == "mul" for node in graph.nodes}
    wanted = {"none": (), "gates": ({True},), "linear": ({False},), "all": ({True}, {False}, {True, False})}
    return [s for s in streams(graph) if {made[name] for name in s.makers} in wanted[kinds]]


def with_factors(graph: Graph, factors: Mapping[Stream, np.ndarray]) -> Graph:
    """The float graph with r, positive float64 [C], in its streams: the same function of its input."""
    rows = {name: r for stream, r in factors.items() for name in stream.makers}
    columns = {name: r for stream, r in factors.items() for name in stream.readers}
    nodes = []
    for node in graph.nodes:
        if node.name in columns:
            node = _divided(node, columns[node.name])
        if node.name in rows:
            node = _multiplied(node, rows[node.name])
        nodes.append(node)
    return verify(replace(graph, nodes=tuple(nodes)))


def _multiplied(node: Node, r: np.ndarray) -> Node:
    if node.op == "mul":
        old = np.asarray(node.params.get("channel_scale", 1.0), np.float64)
        scale = np.clip(old * r, 1 / MAX_CHANNEL_SCALE, MAX_CHANNEL_SCALE)
        return node.with_(params={**node.params, "channel_scale": scale.astype(np.float32)})
    weight, bias = (np.asarray(node.params[role], np.float64) for role in ("weight", "bias"))
    params = {"weight": weight * r.reshape(-1, *[1] * (weight.ndim - 1)), "bias": bias * r}
    return node.with_(params={role: array.astype(np.float32) for role, array in params.items()})


def _divided(node: Node, r: np.ndarray) -> Node:
    weight = np.asarray(node.params["weight"], np.float64)
    groups = node.attrs.get("groups", 1)
    of_outputs = np.repeat(r.reshape(groups, -1), len(weight) // groups, axis=0)  # [O, I / groups]
    divided = weight / of_outputs.reshape(len(weight), *[1] * (weight.ndim - 2), -1)
    return node.with_(params={**node.params, "weight": divided.astype(np.float32)})
