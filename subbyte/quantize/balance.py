"""Factors for the channels of values, so that channels of very different ranges share one scale well.

Cross-layer equalization in the sense of "Data-Free Quantization through Weight Equalization and Bias
Correction" (Nagel et al., arXiv 1906.04721, section 4.1), but for activations, and where no activation
function lies in between. A stream is what linear producers make and linear consumers read: the rows of its
producers (weights and bias, or the factors of a squeeze-and-excitation product) are multiplied by r, a
positive number for each channel, and the columns of its consumers' weights divided by it. The network
computes the same; what a channel's numbers mean has changed, and so has how coarsely one scale rounds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from subbyte.ir import Graph, Node, is_weighted, verify
from subbyte.ir.graph import consumers, producers
from subbyte.ir.shares import sharing
from subbyte.quant import QParams, gate_multiplier_scale
from subbyte.quantize.calibrate import Progress
from subbyte.quantize.channels import Channels, channel_statistics

Kinds = Literal["none", "gates", "linear", "all"]
#: What leaves the factors of its input as they are, if it keeps the number of channels.
PASSES = ("add", "max_pool2d", "global_avg_pool", "flatten")
#: A channel is taken for at least this share of the widest one: what few images show of a channel's range is
#: often too little, and a channel that is cut costs more than one that is rounded more coarsely.
LEAST_SHARE = 0.25
#: Shares of a grid below zero, in units of what lies above, that are tried.
RATIOS = np.geomspace(1 / 64, 64, 97)
#: Of a gate, in 16 bits with a margin for rounding.
LARGEST_FACTOR = 32700.0


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


def factors(graph: Graph, stream: Stream, seen: Mapping[str, Channels]) -> np.ndarray:
    """r, float64 [C] in 1 .. 1 / LEAST_SHARE, from what was seen of the stream's values.

    A grid over -low .. high rounds channel c to steps of (low + high) / r[c], and this noise passes the
    readers' columns of squared norms n[c]: the least (low + high)^2 sum n[c] / r[c]^2 is wanted of all r
    that keep every channel's range inside, r[c] <= min(low / low[c], high / high[c]). For one ratio of low
    to high the largest r are best whatever n is; that ratio is searched. Ranges are each value's in units of
    its widest channel, and the mean over the stream's values.
    """
    width = graph.value(stream.values[0]).shape[-1]
    low, high, noise = np.zeros(width), np.zeros(width), np.zeros(width)
    for name in stream.values:
        ends = seen[name].ends(0.0)
        widest = max(float(end.max()) for end in ends) or 1.0
        low, high = low + ends[0] / widest, high + ends[1] / widest
    for node in map(graph.node, stream.readers):
        norms = _column_norms(node)
        passed = float(norms @ seen[node.inputs[0]].power)
        noise += norms / passed if passed > 0.0 else 0.0
    best, least = np.ones(width), np.inf
    for ratio in RATIOS:
        range_of = np.maximum(low / ratio, high)
        range_of = np.maximum(range_of, LEAST_SHARE * range_of.max())
        cost = (1.0 + ratio) ** 2 * float((noise * range_of**2).sum())
        if cost < least and range_of.max() > 0.0:
            best, least = range_of.max() / range_of, cost
    return best


def _column_norms(node: Node) -> np.ndarray:
    """Sums of squared weights by input channel, float64 [I]."""
    weight, groups = np.asarray(node.params["weight"], np.float64), node.attrs.get("groups", 1)
    squares = np.square(weight).reshape(groups, len(weight) // groups, -1, weight.shape[-1])
    norms: np.ndarray = squares.sum(axis=(1, 2)).reshape(-1)
    return norms


def with_factors(graph: Graph, factors: Mapping[Stream, np.ndarray]) -> Graph:
    """The float graph with r, positive float64 [C], in its streams: the same function of its input, but that
    each parameter is rounded to float32 once more.

    Raises GraphError if a factor of a product leaves the range of its parameter.
    """
    rows = {name: r for stream, r in factors.items() for name in stream.makers}
    columns = {name: r for stream, r in factors.items() for name in stream.readers}
    nodes = []
    for node in graph.nodes:
        row, column = rows.get(node.name), columns.get(node.name)
        if row is not None or column is not None:
            node = _product(node, row) if node.op == "mul" else _layer(node, row, column)
        nodes.append(node)
    return verify(replace(graph, nodes=tuple(nodes)))


def _product(node: Node, row: np.ndarray | None) -> Node:
    assert row is not None  # no stream has a product that reads it
    scale = np.asarray(node.params.get("channel_scale", 1.0), np.float64) * row
    return node.with_(params={"channel_scale": scale.astype(np.float32)})


def _layer(node: Node, row: np.ndarray | None, column: np.ndarray | None) -> Node:
    weight, bias = (np.asarray(node.params[role], np.float64) for role in ("weight", "bias"))
    if row is not None:
        weight, bias = weight * row.reshape(-1, *[1] * (weight.ndim - 1)), bias * row
    if column is not None:
        groups = node.attrs.get("groups", 1)
        of_outputs = np.repeat(column.reshape(groups, -1), len(weight) // groups, axis=0)  # [O, I / groups]
        weight = weight / of_outputs.reshape(len(weight), *[1] * (weight.ndim - 2), -1)
    return node.with_(params={"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)})


def balance(graph: Graph, kinds: Kinds, batches: Iterable[np.ndarray], progress: Progress) -> Graph:
    """The float graph with factors for the channels of its streams of these kinds, in one pass over `batches`
    of images, float32 [N, H, W, C]: the same function of its input.

    Raises InputError if a value becomes infinite or NaN.
    """
    chosen = chosen_streams(graph, kinds)
    names = [name for stream in chosen for name in stream.values]
    seen = channel_statistics(graph, names, batches, progress)
    return with_factors(graph, {stream: factors(graph, stream, seen) for stream in chosen})


def fitting_gates(graph: Graph, grids: Mapping[str, QParams]) -> dict[str, QParams]:
    """The grids, those of products with a channel_scale no finer than their 16-bit factors allow.

    A product's finest grid follows from those of its operands; one that calibration chose finer clips nearly
    everything, or its operands have far fewer bits than it.
    """
    result = dict(grids)
    for node in graph.nodes:
        scale = node.params.get("channel_scale")
        if not isinstance(scale, np.ndarray):
            continue
        x, gate, y = (result[name] for name in (*node.inputs, node.output))
        largest = max(gate.zero_point, gate.qmax - gate.zero_point)
        factor = float(gate_multiplier_scale(x, gate, y, scale).max()) * largest
        if factor > LARGEST_FACTOR:
            coarser = replace(y, scale=float(np.float32(y.scale * (factor / LARGEST_FACTOR))))
            shared = next(members for members in sharing(graph) if node.output in members)
            result.update(dict.fromkeys(shared, coarser))
    return result
