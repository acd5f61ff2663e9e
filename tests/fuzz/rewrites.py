"""Graphs that are strange but whose shapes follow: the mutants that reach the engine.

Each rewrite changes an artifact's graph; shapes are then inferred again, and the file is written
without verification. The verifier, not this file, decides which of them are legal.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from subbyte.artifact import Artifact
from subbyte.artifact.file import serialize
from subbyte.errors import SubbyteError
from subbyte.ir import OPS, Graph, Node, Value
from subbyte.quant import QParams, QTensor, uniform_levels, weight_format
from subbyte.quant.format import pattern_named

Rewrite = Callable[[random.Random, Graph], Graph]


def _replace_node(graph: Graph, index: int, node: Node) -> Graph:
    return replace(graph, nodes=(*graph.nodes[:index], node, *graph.nodes[index + 1 :]))


def _earlier(graph: Graph, index: int) -> list[str]:
    return [graph.input, *(node.output for node in graph.nodes[:index])]


def resize_image(rng: random.Random, graph: Graph) -> Graph:
    shape = graph.value(graph.input).shape
    height, width = rng.randint(1, 40), rng.choice([1, 2, 7, 33, 100])
    if rng.random() < 0.1:
        height, width = 8192, rng.choice([1, 4096, 8192])
    return replace(graph, values={**graph.values, graph.input: Value(graph.input, (height, width, shape[2]))})


def change_window(rng: random.Random, graph: Graph) -> Graph:
    indices = [i for i, node in enumerate(graph.nodes) if "stride" in node.attrs]
    if not indices:
        return graph
    index = rng.choice(indices)
    node = graph.nodes[index]
    attrs = {**node.attrs, "stride": (rng.randint(1, 3), rng.choice([1, 2, 5, 60000]))}
    if "kernel" in attrs:
        attrs["kernel"] = (rng.randint(1, 9), rng.randint(1, 9))
    attrs["pad"] = tuple(rng.randint(0, 4) for _ in range(4))
    return _replace_node(graph, index, node.with_(attrs=attrs))


def change_activation(rng: random.Random, graph: Graph) -> Graph:
    indices = [i for i, node in enumerate(graph.nodes) if "act" in node.attrs]
    index = rng.choice(indices)
    node = graph.nodes[index]
    tabled = "table" in node.params and rng.random() < 0.9
    act = rng.choice(["silu", "sigmoid", "leaky_relu:0.25"] if tabled else ["none", "relu", "relu6"])
    return _replace_node(graph, index, node.with_(attrs={**node.attrs, "act": act}))


def change_grid(rng: random.Random, graph: Graph) -> Graph:
    names = [name for name, value in graph.values.items() if value.q is not None]
    if not names:
        return graph
    value = graph.value(rng.choice(names))
    assert value.q is not None
    bits = rng.choice([value.q.bits, 2, 3, 4, 8])
    zero = rng.choice([0, (1 << bits) - 1, rng.randrange(1 << bits)])
    q = QParams(value.q.scale * 2.0 ** rng.choice([-90, -25, -8, -1, 0, 1, 8, 25, 90]), zero, bits)
    return replace(graph, values={**graph.values, value.name: replace(value, q=q)})


def rewire(rng: random.Random, graph: Graph) -> Graph:
    """One input of one node becomes another earlier value."""
    index = rng.randrange(len(graph.nodes))
    node = graph.nodes[index]
    inputs = list(node.inputs)
    inputs[rng.randrange(len(inputs))] = rng.choice(_earlier(graph, index))
    return _replace_node(graph, index, node.with_(inputs=tuple(inputs)))


def toggle_residual(rng: random.Random, graph: Graph) -> Graph:
    indices = [i for i, node in enumerate(graph.nodes) if node.op == "conv2d"]
    index = rng.choice(indices)
    node = graph.nodes[index]
    extra = () if len(node.inputs) == 2 else (rng.choice(_earlier(graph, index)),)
    return _replace_node(graph, index, node.with_(inputs=(node.inputs[0], *extra)))


def repeat_node(rng: random.Random, graph: Graph) -> Graph:
    """A node runs a second time, on the output of the first where that fits."""
    index = rng.randrange(len(graph.nodes))
    node = graph.nodes[index]
    source = rng.choice([node.inputs[0], node.output])
    again = node.with_(name=f"{node.name}again", inputs=(source, *node.inputs[1:]), output=f"{node.output}b")
    nodes = (*graph.nodes[: index + 1], again, *graph.nodes[index + 1 :])
    values = {**graph.values, again.output: replace(graph.value(node.output), name=again.output)}
    return replace(graph, nodes=nodes, values=values)


def drop_node(rng: random.Random, graph: Graph) -> Graph:
    index = rng.randrange(len(graph.nodes))
    gone = graph.nodes[index]
    nodes = tuple(
        node.with_(inputs=tuple(gone.inputs[0] if name == gone.output else name for name in node.inputs))
        for node in graph.nodes
        if node is not gone
    )
    outputs = tuple(dict.fromkeys(gone.inputs[0] if name == gone.output else name for name in graph.outputs))
    values = {name: value for name, value in graph.values.items() if name != gone.output}
    return replace(graph, nodes=nodes, outputs=outputs, values=values)


def change_outputs(rng: random.Random, graph: Graph) -> Graph:
    """Values in the middle of the network become outputs too, or instead."""
    names = [node.output for node in graph.nodes]
    return replace(graph, outputs=tuple(rng.sample(names, rng.randint(1, min(4, len(names))))))


def join_values(rng: random.Random, graph: Graph) -> Graph:
    """A concat or an add of any two values, appended as an output."""
    first, second = rng.choices([node.output for node in graph.nodes], k=2)
    op = rng.choice(["concat", "add", "mul"])
    node = Node("join", op, (first, second), "joined")
    values = {**graph.values, "joined": Value("joined", (1,), graph.value(first).q)}
    return replace(graph, nodes=(*graph.nodes, node), values=values, outputs=(*graph.outputs, "joined"))


def change_weights(rng: random.Random, graph: Graph) -> Graph:
    """Weights at their extremes, another width, another code book, other scales."""
    indices = [i for i, node in enumerate(graph.nodes) if isinstance(node.params.get("weight"), QTensor)]
    if not indices:
        return graph
    index = rng.choice(indices)
    node = graph.nodes[index]
    weight = node.params["weight"]
    assert isinstance(weight, QTensor)
    bits = rng.choice([2, 3, 4, 8])
    codes = weight.codes & ((1 << bits) - 1)
    if rng.random() < 0.5:
        codes = np.full_like(codes, rng.randrange(1 << bits))
    levels = np.frombuffer(rng.randbytes(1 << bits), np.int8)
    scale = weight.scale * np.float32(2.0 ** rng.choice([-60, -8, 0, 0, 0, 8, 30]))
    bias = np.full_like(node.params["bias"], rng.choice([-(2**31), -(2**30), 0, 2**30, 2**31 - 1]))
    format = weight_format(bits).with_book(levels)
    if rng.random() < 0.4:
        name = rng.choice(["2:4", "1:4", "7:64", "4x16:50", "4x16:1", "3x5:99", "1x1:40"])
        format, levels = replace(weight_format(bits), pattern=pattern_named(name)), uniform_levels(bits)
        assert format.pattern.mask is not None
        codes = codes * format.pattern.mask(codes)
    params = {**node.params, "weight": QTensor(codes, scale, format, levels)}
    return _replace_node(
        graph, index, node.with_(params=params | ({"bias": bias} if rng.random() < 0.2 else {}))
    )


REWRITES: tuple[Rewrite, ...] = (
    resize_image,
    change_window,
    change_activation,
    change_grid,
    rewire,
    toggle_residual,
    repeat_node,
    drop_node,
    change_outputs,
    join_values,
    change_weights,
)


def infer(graph: Graph) -> Graph:
    """The graph with shapes, and grids that are kept, computed anew. GraphError where an op does not fit."""
    values = {graph.input: graph.value(graph.input)}
    for node in graph.nodes:
        op = OPS[node.op]
        shape = op.shape(node, [values[name].shape for name in node.inputs])
        grid = values[node.inputs[0]].q if op.keeps_grid else graph.value(node.output).q
        values[node.output] = Value(node.output, shape, grid)
    return replace(graph, values=values)


def rewrite(rng: random.Random, artifact: Artifact) -> bytes:
    """One to four rewrites whose shapes follow, as a file. Rewrites that do not fit are retried."""
    graph, wanted = artifact.graph, rng.choice([1, 1, 2, 4])
    for _ in range(40):
        try:
            graph = infer(rng.choice(REWRITES)(rng, graph))
            wanted -= 1
        except (SubbyteError, KeyError, IndexError):
            continue
        if not wanted:
            break
    height, width, _ = graph.value(graph.input).shape
    preprocessing = replace(artifact.preprocessing, height=height, width=width)
    return b"".join(serialize(replace(artifact, graph=graph, preprocessing=preprocessing, classes=None)))
