"""A network's layers for people: what each does, what it reads, how its weights are distributed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from subbyte.ir import Graph, Node
from subbyte.ir.graph import producers
from subbyte.quant import QTensor

BINS = 64  # of a histogram, at most
MOST = 6  # layers in a block of leftovers


@dataclass(frozen=True)
class Histogram:
    """counts: of weights per bin, from `low` to `high`: integer levels for quantized weights (their grid's
    ends, or the ends of the code book; the last bin may reach further), real numbers for float ones, whose
    `bits` is None."""

    bits: int | None
    low: float
    high: float
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """The number of values counted."""
        return sum(self.counts)


@dataclass(frozen=True)
class Layer:
    """label: what the node does, in short. inputs: the nodes that it reads (the image is none of them).
    shape: of its output, per image."""

    name: str
    op: str
    label: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    weights: Histogram | None = None


def layers_of(graph: Graph) -> list[Layer]:
    """A layer per node, in execution order."""
    made_by = producers(graph)
    return [
        Layer(
            node.name,
            node.op,
            _label(node),
            tuple(made_by[name].name for name in node.inputs if name in made_by),
            graph.value(node.output).shape,
            histogram(node.params["weight"]) if "weight" in node.params else None,
        )
        for node in graph.nodes
    ]


def histogram(weight: np.ndarray | QTensor) -> Histogram:
    """Of quantized weights' integer levels, each a bin of its own where that is few enough, or of float
    weights."""
    if isinstance(weight, QTensor):
        low, high = int(weight.levels.min()), int(weight.levels.max())
        counts = np.bincount(weight.values().astype(np.int64).ravel() - low, minlength=high - low + 1)
        step = -(-len(counts) // BINS)
        padded = np.pad(counts, (0, -len(counts) % step)).reshape(-1, step).sum(axis=1)
        return Histogram(weight.bits, low, high, tuple(padded.tolist()))
    reach = float(np.abs(weight).max(initial=0.0)) or 1.0
    counts, _ = np.histogram(weight, BINS, (-reach, reach))
    return Histogram(None, -reach, reach, tuple(counts.tolist()))


SHORT = {"global_avg_pool": "avg pool", "linear": "linear", "add": "add", "mul": "scale"}


def _label(node: Node) -> str:
    if node.op != "conv2d":
        return SHORT.get(node.op, node.op.replace("_", " "))
    outputs, height, width, _ = node.params["weight"].shape
    groups, stride = node.attrs["groups"], max(node.attrs["stride"])
    depthwise = " dw" if groups == outputs and groups > 1 else " grouped" if groups > 1 else ""
    residual = " +" if len(node.inputs) > 1 else ""
    return f"{height}×{width}{depthwise}{f' /{stride}' if stride > 1 else ''}{residual}"


def blocks_of(layers: Sequence[Layer]) -> list[tuple[str, list[Layer]]]:
    """Layers that belong together, in order, with a name: those whose dotted names are equal up to the
    first numbers in them ("blocks.2.1" of "blocks.2.1.conv_pw"). What is left over alone joins what is left
    over before it, up to MOST in a block, if its name is of the same kind, with or without numbers, and its
    output has the same height and width."""
    runs: list[tuple[str, list[Layer]]] = []
    for layer in layers:
        key = block_name(layer.name)
        if runs and runs[-1][0] == key:
            runs[-1][1].append(layer)
        else:
            runs.append((key, [layer]))
    blocks: list[tuple[str, list[Layer]]] = []
    leftovers = False
    for name, members in runs:
        alone = len(members) == 1
        if alone and leftovers and _alike(blocks[-1][1], members[0]):
            blocks[-1][1].append(members[0])
        else:
            blocks.append((name, members))
        leftovers = alone
    return blocks


def _alike(leftovers: Sequence[Layer], layer: Layer) -> bool:
    last = leftovers[-1]
    numbered = [any(part.isdecimal() for part in one.name.split(".")) for one in (last, layer)]
    return len(leftovers) < MOST and numbered[0] == numbered[1] and last.shape[:-1] == layer.shape[:-1]


def block_name(name: str) -> str:
    """A dotted name up to the first numbers in it, all of it if there is none."""
    parts = name.split(".")
    for i, part in enumerate(parts):
        if part.isdecimal() and not (i + 1 < len(parts) and parts[i + 1].isdecimal()):
            return ".".join(parts[: i + 1])
    return name
