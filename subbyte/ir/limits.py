"""What a graph may demand: generous bounds that keep a small hostile file from costing much.

For scale: EfficientNetV2-L at 480 x 480 needs 2**35.7 multiplications, 2**26.8 parameters and 2**25
bytes of live activations; a 3840 x 2160 image through one 32-channel float32 convolution 2**27.98
elements and 2**30.6 live bytes.
"""

from __future__ import annotations

import math

from subbyte.errors import GraphError
from subbyte.ir.graph import Graph, Node, Value

MAX_NODES = 10_000
MAX_NAME = 256  # characters of a node's or value's name
MAX_EXTENT = 1 << 16  # of one dimension
MAX_ELEMENTS = 1 << 28  # of one value, per image
MAX_KERNEL = 256  # positions of a window (16 x 16)
MAX_PARAMETERS = 1 << 28  # elements of all parameters together
MAX_WORK = 1 << 42  # multiplications (or comparisons, additions) per image
MAX_LIVE_BYTES = 1 << 32  # of the activations alive at once, per image


def node_work(node: Node, output: Value) -> int:
    """Multiply-accumulates of a conv2d or linear; elements touched for every other op."""
    if node.op in ("conv2d", "linear"):
        weight = node.params["weight"].shape
        return math.prod(output.shape) * math.prod(weight[1:])
    if node.op == "max_pool2d":
        return math.prod(output.shape) * math.prod(node.attrs["kernel"])
    return math.prod(output.shape)


def value_bytes(value: Value) -> int:
    """Bytes of one image's value, its channels rounded up to 16 as an engine may store them."""
    positions, channels = math.prod(value.shape[:-1]), -(-value.shape[-1] // 16) * 16
    return positions * channels * (4 if value.q is None else 1)


def peak_live_bytes(graph: Graph) -> int:
    """The most bytes of values alive at once when nodes run in order and none is overwritten."""
    last_use = {name: i for i, node in enumerate(graph.nodes) for name in (*node.inputs, node.output)}
    last_use |= dict.fromkeys(graph.outputs, len(graph.nodes))
    live = peak = value_bytes(graph.value(graph.input))
    for i, node in enumerate(graph.nodes):
        live += value_bytes(graph.value(node.output))
        peak = max(peak, live)
        dead = {name for name in (*node.inputs, node.output) if last_use[name] == i}
        live -= sum(value_bytes(graph.value(name)) for name in dead)
    return peak


def check_budget(graph: Graph) -> None:
    """Raises GraphError if the whole (otherwise valid) graph costs more than the bounds above."""
    parameters = sum(math.prod(p.shape) for node in graph.nodes for p in node.params.values())
    if parameters > MAX_PARAMETERS:
        raise GraphError(f"the graph has {parameters} parameters; at most {MAX_PARAMETERS} are supported")
    work = sum(node_work(node, graph.value(node.output)) for node in graph.nodes)
    if work > MAX_WORK:
        raise GraphError(f"the graph needs {work} operations per image; at most {MAX_WORK} are supported")
    live = peak_live_bytes(graph)
    if live > MAX_LIVE_BYTES:
        raise GraphError(
            f"the graph keeps {live} bytes of activations alive; at most {MAX_LIVE_BYTES} are supported"
        )
