"""Channels that can only go together: what makes them, passes them on and reads them, by data flow.

A channel of a value that a residual joins with another is a channel of both; a depthwise convolution and
squeeze-and-excitation pass channels on ("DepGraph: Towards Any Structural Pruning", arXiv 2301.12900, has the
general case). So the expanded channels of an MBConv, its depthwise layer, its gate and what its projection
reads are one group, and the outputs of all blocks that residuals join are another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from subbyte.ir import Graph, Node, is_weighted, verify
from subbyte.ir.graph import consumers, producers

#: What has at each channel of its output what comes of that channel of all its inputs.
PASSES = ("activation", "add", "mul", "max_pool2d", "global_avg_pool", "batch_norm")


@dataclass(frozen=True)
class Channels:
    """values: that have these channels. makers: nodes with an output for each, of which some pass them on;
    readers: layers that sum over them. Names all, in order."""

    values: tuple[str, ...]
    makers: tuple[str, ...]
    readers: tuple[str, ...]


def channel_groups(graph: Graph) -> list[Channels]:
    """The groups of a float graph that layers make and layers read, in order of their first values; not those
    of the network's input and outputs, nor of what joins or moves channels otherwise."""
    group = {name: [name] for name in graph.values}
    closed = {graph.input, *graph.outputs}
    for node in graph.nodes:
        together = _together(graph, node)
        if together is None:
            closed |= {*node.inputs, node.output}
            continue
        for name in together[1:]:
            if group[name] is not group[together[0]]:
                joined = group[together[0]] + group[name]
                group.update(dict.fromkeys(joined, joined))
    made, read = producers(graph), consumers(graph)
    order = {name: i for i, name in enumerate(graph.values)}
    found = []
    for names in {id(names): names for names in group.values()}.values():
        if closed.intersection(names):
            continue
        values = sorted(names, key=order.__getitem__)
        makers = [made[name].name for name in values if made[name].params]
        readers = {n.name: None for v in values for n in read[v] if _sums(n) and n.inputs[0] == v}
        if readers:
            found.append(Channels(tuple(values), tuple(makers), tuple(readers)))
    return sorted(found, key=lambda channels: order[channels.values[0]])


def _together(graph: Graph, node: Node) -> list[str] | None:
    """The values of a node that have the same channels, None if it is not known what it does to them."""
    if _sums(node):
        return [node.output, *node.inputs[1:]]
    if _depthwise(node) or node.op in PASSES:
        return [node.output, *node.inputs]
    if node.op == "flatten" and graph.value(node.inputs[0]).shape[:-1] in ((), (1, 1)):
        return [node.output, *node.inputs]
    return None


def _sums(node: Node) -> bool:
    """Whether each output sums over all channels of the first input."""
    return is_weighted(node) and node.attrs.get("groups", 1) == 1


def _depthwise(node: Node) -> bool:
    shape = np.shape(node.params["weight"]) if is_weighted(node) else ()
    return node.op == "conv2d" and shape[3] == 1 and node.attrs["groups"] == shape[0]


def without_channels(graph: Graph, channels: Channels, kept: Sequence[int]) -> Graph:
    """The float graph, verified, with only the channels `kept`, ascending indices, of a group: layers really
    are smaller."""
    index = np.asarray(kept)
    nodes = []
    for node in graph.nodes:
        params, attrs = dict(node.params), dict(node.attrs)
        if node.name in channels.makers:
            params = {role: np.ascontiguousarray(np.asarray(param)[index]) for role, param in params.items()}
            if _depthwise(node):
                attrs["groups"] = len(index)
        if node.name in channels.readers:
            params["weight"] = np.ascontiguousarray(np.asarray(params["weight"])[..., index])
        nodes.append(node.with_(params=params, attrs=attrs))
    values = dict(graph.values)
    for name in channels.values:
        values[name] = replace(values[name], shape=(*values[name].shape[:-1], len(index)))
    return verify(replace(graph, nodes=tuple(nodes), values=values))
