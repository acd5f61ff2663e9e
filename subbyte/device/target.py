"""The interface of a device whose latency a search can ask for, and what it is asked about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from subbyte.ir import CLAMP_ACTIVATIONS, Graph, Node
from subbyte.passes import squeeze_excite


@dataclass(frozen=True)
class Layer:
    """A node as a device sees it: everything its time depends on, but the widths.

    kernel, stride: (1, 1) where there is no window. input, output: shapes (H, W, C) or (C,), per
    image. epilogue: "none", "clamp" or "table". gated: reads a tensor that a squeeze-excite gate
    scales on the way.
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

    @property
    def signature(self) -> str:
        """A text that is equal for equal layers, in this version of the program and any later one."""
        window = "x".join(map(str, self.kernel)) + "s" + "x".join(map(str, self.stride))
        shapes = f"{'x'.join(map(str, self.input))}>{'x'.join(map(str, self.output))}"
        extras = ("+residual" if self.residual else "") + ("+gate" if self.gated else "")
        return f"{self.op} {window} g{self.groups} {shapes} {self.epilogue}{extras}"


class Target(Protocol):
    """A device. Latencies of a network's nodes add up to that of the network."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    def supports(self, layer: Layer, weights: int, activations: int) -> bool:
        """Whether the device runs the layer with weights and input of so many bits.

        weights: 0 for a layer that has none.
        """
        ...

    def latency(self, layer: Layer, weights: int, activations: int) -> float:
        """Milliseconds for one image. InputError if the device does not know the layer."""
        ...


def layers(graph: Graph) -> dict[str, Layer]:
    """Node name to layer, for all nodes of a graph, float or quantized."""
    gates = {block.gate for block in squeeze_excite(graph)}
    gated = {node.output for node in graph.nodes if node.name in gates}
    return {node.name: _layer(graph, node, gated) for node in graph.nodes}


def _layer(graph: Graph, node: Node, gated: set[str]) -> Layer:
    kernel = (1, 1)
    if node.op == "conv2d":
        kernel = (int(node.params["weight"].shape[1]), int(node.params["weight"].shape[2]))
    elif "kernel" in node.attrs:
        kernel = tuple(node.attrs["kernel"])
    act = node.attrs.get("act", "none")
    return Layer(
        node.op,
        kernel,
        tuple(node.attrs.get("stride", (1, 1))),
        int(node.attrs.get("groups", 1)),
        graph.value(node.inputs[0]).shape,
        graph.value(node.output).shape,
        "table" if act not in CLAMP_ACTIVATIONS else "none" if act == "none" else "clamp",
        len(node.inputs) == 2 and node.op == "conv2d",
        node.inputs[0] in gated,
    )
