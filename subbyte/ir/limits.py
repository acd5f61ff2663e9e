"""What a graph may demand: generous bounds that keep a small hostile file from costing much.

For scale: EfficientNetV2-L at 480 x 480 needs 2**35.7 multiplications, 2**26.8 parameters and 2**25
bytes of live activations; a 3840 x 2160 image through one 32-channel float32 convolution 2**27.98
elements and 2**30.6 live bytes.
"""

from __future__ import annotations

import math

from subbyte.ir.graph import Graph, Value

MAX_NODES = 10_000
MAX_NAME = 256  # characters of a node's or value's name
MAX_EXTENT = 1 << 16  # of one dimension
MAX_ELEMENTS = 1 << 28  # of one value, per image
MAX_KERNEL = 256  # positions of a window (16 x 16)
MAX_PARAMETERS = 1 << 28  # elements of all parameters together
MAX_WORK = 1 << 42  # multiplications (or comparisons, additions) per image
MAX_LIVE_BYTES = 1 << 32  # of the activations alive at once, per image


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
