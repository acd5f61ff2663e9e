"""Makes weights of the float network zero, in the patterns of the layers' formats; others make up for them.

Layer after layer, each on what those before it, pruned already, make of the calibration images: which weights
go by magnitude, by what they are multiplied with, or by what the error of the layer rises by (prune/).
Rounding then finds the zeros where it would have made them, and training keeps them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from subbyte.errors import RecipeError
from subbyte.execute.torch import executor as torch_executor
from subbyte.execute.torch.straight_through import slope
from subbyte.ir import Graph, Node, is_weighted
from subbyte.ir.graph import rebuild
from subbyte.ir.limits import value_bytes
from subbyte.prune.importance import importance
from subbyte.prune.layout import Layout, blocks_kept, layout_of, magnitude
from subbyte.prune.second_order import compensated, trace
from subbyte.prune.statistics import Statistics
from subbyte.quant import Format
from subbyte.quantize.calibrate import BATCH
from subbyte.quantize.prepare import exposed, pre_value
from subbyte.recipes import Pruning
from subbyte.steps.blocks import blocks
from subbyte.steps.context import Context
from subbyte.steps.parts import part_of, through, with_node
from subbyte.steps.train import read_state, write_state

#: Memory for what blocks read and make of all images, of both networks.
BLOCK_BYTES = 1 << 32
#: Images that gradients are taken of, at most: each takes as long as a step of training.
GRADIENT_IMAGES = 64


def run(context: Context) -> Graph:
    """The float graph of the same nodes with zeros where the patterns of `context.formats` leave weights out.

    Configuration: Pruning. The work folder keeps finished layers, which are not pruned again. Depthwise and
    grouped layers stay as they are: rounding alone follows their pattern, if they have one.
    Raises RecipeError if no layer has a pattern, GraphError for a pattern that is neither of groups nor of
    blocks.
    """
    graph, asked = context.original, context.configuration
    assert isinstance(asked, Pruning)
    layouts = chosen_layouts(graph, context.formats)
    if not layouts:
        raise RecipeError(
            "the step 'prune' has nothing to do: no layer's format has a pattern; ask for one, like int8+2:4"
        )
    images = fewer(graph, context.images, asked.images)
    counts: Mapping[str, np.ndarray] = {}
    compete = any(not layout.group for layout in layouts.values())
    if asked.method == "obc" and asked.outputs == "fisher" and compete:
        counts = counts_of(context, images)
    numbers = {name: number for number, name in enumerate(layouts)}
    exact = present = torch_executor.nchw(images)
    for block in blocks(graph):
        whole = part = part_of(graph, block)
        for name in (name for name in block.nodes if name in layouts):
            place = None if context.work is None else context.work / f"prune-{numbers[name]:03}.pt"
            layer = Layer(whole, part, whole.node(name), layouts[name], asked, counts.get(name))
            node = layer.kept(place, exact, present, generator_of(context, numbers[name]))
            part, graph = with_node(part, node), with_node(graph, node)
            context.progress(f"prune, {len(layouts)} layers", numbers[name] + 1)
        wanted = through(whole, exact, None)
        present = wanted if present is exact and part is whole else through(part, present, None)
        exact = wanted
    return graph


def rises(context: Context, percents: Sequence[int]) -> dict[str, dict[int, float]]:
    """By layer whose format has a pattern of blocks, and by per cent of its blocks that stay: the mean rise
    of the squared error of the network's outputs, each in units of its root mean square, summed over them,
    for an image, to second order; all other layers being dense, and 0 at 100 per cent.

    Configuration: Pruning, with method "obc" and outputs "fisher". RecipeError if a pattern is not of blocks.
    """
    graph, layouts = context.original, chosen_layouts(context.original, context.formats)
    groups = [name for name, layout in layouts.items() if layout.group]
    if groups:
        raise RecipeError(f"of layer {groups[0]!r} blocks are to stay, so its pattern must be like 4x16:50")
    images = fewer(graph, context.images, context.configuration.images)
    counts = counts_of(context, images)
    found: dict[str, dict[int, float]] = {}
    x = torch_executor.nchw(images)
    for block in blocks(graph):
        whole = part_of(graph, block)
        for name in (name for name in block.nodes if name in layouts):
            node, asked = whole.node(name), context.configuration
            layer = Layer(whole, whole, node, layouts[name], asked, counts[name])
            positions = math.prod(graph.value(node.output).shape[:-1])
            per_row = layer.rises(x, generator_of(context, len(found)), percents)
            found[name] = {percent: positions * rise for percent, rise in per_row.items()}
            context.progress(f"rises, {len(layouts)} layers", len(found))
        x = through(whole, x, None)
    return found


def counts_of(context: Context, images: np.ndarray) -> dict[str, np.ndarray]:
    """What errors of each layer's outputs count, by layer, from some of the images: see `importance`."""
    few = _even(images, GRADIENT_IMAGES)
    return importance(context.original, few, context.seed, context.progress)


def generator_of(context: Context, number: int) -> torch.Generator:
    """Of the layer `number`, so that a run can go on at any layer."""
    return torch.Generator().manual_seed(context.seed + number)


def chosen_layouts(graph: Graph, formats: Mapping[str, Format]) -> dict[str, Layout]:
    """The layers that are pruned, in order, with what can go together in them."""
    return {
        node.name: layout_of(formats[node.name].pattern.name)
        for node in graph.nodes
        if is_weighted(node)
        and node.attrs.get("groups", 1) == 1
        and node.name in formats
        and formats[node.name].pattern.mask is not None
    }


def _even(images: np.ndarray, most: int) -> np.ndarray:
    """An even selection of at most so many images."""
    chosen: np.ndarray = images[np.linspace(0, len(images) - 1, min(len(images), most)).astype(int)]
    return chosen


def fewer(graph: Graph, images: np.ndarray, most: int) -> np.ndarray:
    """An even selection of at most `most` images whose values fit BLOCK_BYTES."""
    ends = [value_bytes(graph.value(name)) for block in blocks(graph) for name in (block.input, block.output)]
    return _even(images, min(most, max(8, BLOCK_BYTES // (4 * max(ends)))))


class Layer:
    """A layer of a block that is to be pruned: `whole` is the block as it was, `part` as it is by now, in
    which the layer reads what it will read.

    outputs: which ones of the layer in `whole` the node has; None: all. counts: what each counts.
    """

    def __init__(
        self,
        whole: Graph,
        part: Graph,
        node: Node,
        layout: Layout,
        asked: Pruning,
        counts: np.ndarray | None,
        outputs: np.ndarray | None = None,
    ) -> None:
        self.node, self.layout, self.asked, self.counts = node, layout, asked, counts
        self.outputs = None if outputs is None else torch.from_numpy(outputs)
        self.reads, self.makes = self.node.inputs[0], pre_value(self.node)
        self.part, self.whole = _up_to(part, self.reads), _up_to(exposed(whole), self.makes)

    def kept(self, place: Path | None, exact: Tensor, present: Tensor, generator: torch.Generator) -> Node:
        """The layer pruned, or as it was found at `place`, where it is left. exact, present: what both blocks
        read, of all images."""
        if place is not None and place.exists():
            found = read_state(place)
            params = {role: found[role].numpy() for role in ("weight", "bias")}
            return self.node.with_(params={**self.node.params, **params})
        node = self._pruned(exact, present, generator)
        if place is not None:
            write_state(place, {role: torch.from_numpy(node.params[role]) for role in ("weight", "bias")})
        return node

    def _pruned(self, exact: Tensor, present: Tensor, generator: torch.Generator) -> Node:
        asked, layout = self.asked, self.layout
        weight = np.asarray(self.node.params["weight"], np.float32)
        if asked.method == "magnitude" and not asked.compensate:
            return self._without(blocks_kept(magnitude(weight, layout), weight.shape, layout))
        seen = self.seen(exact, present, generator)
        quadratic = seen.quadratic(asked.damping, self.counts, own=asked.target == "own")
        if asked.method == "obc":
            worth = trace(quadratic, layout, asked.rounds)
        else:
            norms = np.sqrt(seen.norms()) if asked.method == "wanda" else 1.0
            worth = magnitude(weight * norms, layout)
        kept = blocks_kept(worth, weight.shape, layout)
        if not asked.compensate:
            return self._without(kept)
        weights = compensated(quadratic, kept, layout)
        return seen.node_of(seen.rescaled(weights) if asked.rescale else weights)

    def rises(self, x: Tensor, generator: torch.Generator, percents: Sequence[int]) -> dict[int, float]:
        """What an output position's error rises by on average where so many per cent of the blocks stay."""
        seen, shape = self.seen(x, x, generator), np.shape(self.node.params["weight"])
        quadratic = seen.quadratic(self.asked.damping, self.counts, own=True)
        worth, found = trace(quadratic, self.layout, self.asked.rounds), {}
        for percent in percents:
            kept = blocks_kept(worth, shape, replace(self.layout, share=Fraction(percent, 100)))
            moved = quadratic.rise(compensated(quadratic, kept, self.layout))
            found[percent] = 0.0 if kept.all() else moved / seen.rows
        return found

    def _without(self, kept: np.ndarray) -> Node:
        weight = np.asarray(self.node.params["weight"], np.float32)
        zeros = np.where(self.layout.spread(kept, weight.shape), weight, np.float32(0.0))
        return self.node.with_(params={**self.node.params, "weight": zeros})

    def refitted(self, exact: Tensor, present: Tensor, generator: torch.Generator) -> Node:
        """The layer with the weights of the least error, all staying."""
        seen = self.seen(exact, present, generator)
        return seen.node_of(seen.quadratic(self.asked.damping, self.counts, own=False).best())

    def seen(self, exact: Tensor, present: Tensor, generator: torch.Generator) -> Statistics:
        """What the layer reads and should make of all images, which the blocks read as these tensors."""
        seen = Statistics(self.node, self.layout, weighted=self.asked.slopes)
        states = [torch_executor.state_of(graph) for graph in (self.part, self.whole)]
        batches = -(-len(exact) // BATCH)
        most = -(-int(self.asked.rows * seen.size) // batches)
        with torch.no_grad():
            for start in range(0, len(exact), BATCH):
                x, y = (
                    torch_executor.forward(graph, images[start : start + BATCH], state, exact=False)[name]
                    for graph, state, images, name in (
                        (self.part, states[0], present, self.reads),
                        (self.whole, states[1], exact, self.makes),
                    )
                )
                y = y if self.outputs is None else y[:, self.outputs]
                seen.add(x, y, slope(self.node.attrs["act"], y), most, generator)
        return seen


def _up_to(graph: Graph, value: str) -> Graph:
    """What makes `value` of the graph's input."""
    needed, nodes = {value}, []
    for node in reversed(graph.nodes):
        if node.output in needed:
            needed.update(node.inputs)
            nodes.append(node)
    return rebuild(replace(graph, outputs=(value,)), reversed(nodes))
