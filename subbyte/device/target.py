"""What a device is to a search: what it can run, what that costs, and the layers that it is asked about."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from subbyte.ir import CLAMP_ACTIVATIONS, OPS, Graph, Node
from subbyte.ir.ops import adds_residual
from subbyte.passes import squeeze_excite
from subbyte.quant import Format
from subbyte.quant.format import FP32, UINT8


@dataclass(frozen=True)
class Layer:
    """A node as a device sees it: everything its cost depends on, but the formats.

    kernel, stride: (1, 1) where there is no window. input, output: shapes (H, W, C) or (C,), per
    image. epilogue: "none", "clamp" or "table". gated: reads a tensor that a squeeze-excite gate
    scales on the way. weight: shape of its weights, None without. read: numbers of all its inputs.
    """

    op: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    groups: int
    input: tuple[int, ...]
    output: tuple[int, ...]
    epilogue: str
    residual: bool
    gated: bool
    weight: tuple[int, ...] | None
    read: int

    @property
    def signature(self) -> str:
        """A text that is equal for equal layers, in this version of the program and any later one."""
        window = "x".join(map(str, self.kernel)) + "s" + "x".join(map(str, self.stride))
        shapes = f"{'x'.join(map(str, self.input))}>{'x'.join(map(str, self.output))}"
        extras = ("+residual" if self.residual else "") + ("+gate" if self.gated else "")
        return f"{self.op} {window} g{self.groups} {shapes} {self.epilogue}{extras}"

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations per image; taps in the padding count."""
        return 0 if self.weight is None else math.prod(self.output) * math.prod(self.weight[1:])

    def moved(self, weights: Format | None, activations: Format) -> int:
        """Bytes of weights, inputs and output in these formats, each once."""
        made = activations.packed_bytes((self.read + math.prod(self.output),))
        return made if self.weight is None or weights is None else made + weights.bytes(self.weight)


@dataclass(frozen=True)
class Cost:
    """Of a layer, for one image. time: ms. moved: bytes from and to main memory. energy: mJ, None if the
    device does not know it. So are cycles, utilization (of the peak of multiplications, 0 to 1) and bound
    (what it waits for)."""

    time: float
    moved: int
    energy: float | None = None
    cycles: float | None = None
    utilization: float | None = None
    bound: str | None = None


@dataclass(frozen=True)
class Memory:
    """Bytes that a network needs on a device. activations: for one image, at the peak. weights: with biases
    and tables, as the device keeps them."""

    activations: int
    weights: int


class Target(Protocol):
    """A device. Times and energies of a network's layers add up to those of the network.

    Formats of weights and of a layer's inputs; `weights` is None for a layer that has none.
    """

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def here(self) -> bool:
        """Whether this process runs on it, so that a whole network can be timed."""
        ...

    def prepare(self, graphs: Mapping[str, Graph]) -> None:
        """Learns what it must know to answer for the layers of these quantized graphs (by any name)."""
        ...

    def supports(self, layer: Layer, weights: Format | None, activations: Format) -> bool:
        """Whether the device runs the layer in these formats."""
        ...

    def cost(self, layer: Layer, weights: Format | None, activations: Format) -> Cost:
        """InputError if the device does not know the layer in these formats."""
        ...

    def memory(self, graph: Graph) -> Memory:
        """Of a verified graph."""
        ...


def layers(graph: Graph) -> dict[str, Layer]:
    """Node name to layer, for all nodes of a graph, float or quantized."""
    gates = {block.gate for block in squeeze_excite(graph)}
    gated = {node.output for node in graph.nodes if node.name in gates}
    return {node.name: _layer(graph, node, gated) for node in graph.nodes}


def reads(graph: Graph, node: Node) -> Format:
    """The format of a node's first input: what a device has to support. Levels are bytes."""
    q = graph.value(node.inputs[0]).q
    if q is None:
        return FP32
    return UINT8 if q.format.book else q.format


def _layer(graph: Graph, node: Node, gated: set[str]) -> Layer:
    weight = node.params["weight"].shape if "weight" in node.params else None
    act = node.attrs.get("act", "none")
    return Layer(
        node.op,
        OPS[node.op].kernel(node),
        tuple(node.attrs.get("stride", (1, 1))),
        int(node.attrs.get("groups", 1)),
        graph.value(node.inputs[0]).shape,
        graph.value(node.output).shape,
        "table" if act not in CLAMP_ACTIVATIONS else "none" if act == "none" else "clamp",
        adds_residual(node),
        node.inputs[0] in gated,
        weight,
        sum(math.prod(graph.value(name).shape) for name in node.inputs),
    )
