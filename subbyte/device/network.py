"""What a whole network costs on a device: a graph's layers, or layers that have no graph yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod

from subbyte.device.target import Cost, Layer, Target, layers, reads
from subbyte.ir import Graph
from subbyte.ir.graph import weights_of
from subbyte.quant import Format
from subbyte.quant.format import FP32, INT8, UINT8


@dataclass(frozen=True)
class Asked:
    """A layer with the formats that a device is asked for: of its weights, None without, and of its input."""

    name: str
    layer: Layer
    weights: Format | None
    activations: Format


@dataclass(frozen=True)
class Price:
    """Of one image. costs: by layer, in order. time: ms. energy: mJ, None if the device knows none. moved:
    bytes from and to main memory."""

    costs: tuple[Cost, ...]
    time: float
    energy: float | None
    moved: int

    def power(self, rate: float) -> float | None:
        """Mean mW at so many images a second, if the device is switched off between them."""
        return None if self.energy is None else self.energy * rate


def asked(graph: Graph) -> list[Asked]:
    """All layers of a graph, in their own formats."""
    found = layers(graph)
    return [Asked(n.name, found[n.name], weights_of(n), reads(graph, n)) for n in graph.nodes]


def as_quantized(graph: Graph, weights: Format = INT8, activations: Format = UINT8) -> list[Asked]:
    """All layers of a float graph, as if they were quantized to these formats; the image and the outputs
    cross the border of the device, as those of a quantized graph do."""
    rows = [replace(row, weights=row.weights and weights, activations=activations) for row in asked(graph)]
    ends = [
        Asked(name, border(graph.value(name).shape), None, FP32) for name in (graph.input, *graph.outputs)
    ]
    return [ends[0], *rows, *ends[1:]]


def price(target: Target, network: Iterable[Asked]) -> Price:
    """The sums of all layers' costs. InputError for a layer that the device does not run."""
    costs = tuple(target.cost(a.layer, a.weights, a.activations) for a in network)
    energies = [cost.energy for cost in costs]
    known = [energy for energy in energies if energy is not None]
    return Price(
        costs,
        sum(cost.time for cost in costs),
        sum(known) if len(known) == len(energies) else None,
        sum(cost.moved for cost in costs),
    )


def convolution(
    shape: tuple[int, ...],
    outputs: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    *,
    residual: bool = False,
    epilogue: str = "clamp",
) -> Layer:
    """A convolution of a map of shape (H, W, C), padded so that H and W are divided by the stride, rounded
    up. groups: as many as channels for a depthwise one."""
    height, width, channels = shape
    output = (-(-height // stride), -(-width // stride), outputs)
    read = height * width * channels
    if residual:
        read += output[0] * output[1] * outputs
    return Layer(
        "conv2d",
        (kernel, kernel),
        (stride, stride),
        groups,
        shape,
        output,
        epilogue,
        residual,
        False,
        (outputs, kernel, kernel, channels // groups),
        read,
    )


def linear(inputs: int, outputs: int) -> Layer:
    """A fully connected layer."""
    shape = (inputs,), (outputs,)
    return Layer("linear", (1, 1), (1, 1), 1, *shape, "none", False, False, (outputs, inputs), inputs)


def border(shape: tuple[int, ...]) -> Layer:
    """An image or output that is brought to the device, or away from it, with the change of its grid."""
    count = prod(shape)
    return Layer("quantize", (1, 1), (1, 1), 1, shape, shape, "none", False, False, None, count)
