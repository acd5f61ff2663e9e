"""Quantized forms of one network that share a calibration and differ in formats only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from subbyte.ir import OPS, Graph, Node, is_weighted
from subbyte.ir.graph import producers
from subbyte.ir.shares import sharing
from subbyte.quant import Format, QParams, QTensor
from subbyte.quant.format import INT8, UINT8
from subbyte.quant.pattern import DENSE
from subbyte.quantize.assignment import Assignment, assignments, roles
from subbyte.quantize.attach import attach, to_nearest
from subbyte.quantize.balance import balance, chosen_streams
from subbyte.quantize.calibrate import Progress, calibrate, regrouped
from subbyte.quantize.histogram import Histogram
from subbyte.quantize.prepare import split_for_integers
from subbyte.recipes import Layers, Override, Recipe

Formats = Mapping[str, Format]


@dataclass(frozen=True)
class Shared:
    """Nodes of a network whose outputs have one format, and the values of `float_graph` that have it."""

    nodes: tuple[str, ...]
    values: frozenset[str]


def eight_bits(recipe: Recipe) -> Recipe:
    """The recipe with 8 bits everywhere; layers that it runs in floating point stay there."""
    kept = tuple(
        Override(match=rule.match, role=rule.role, precision=rule.precision)
        for rule in recipe.override
        if rule.precision is not None
    )
    return recipe.model_copy(
        update={
            "weights": recipe.weights.model_copy(update={"bits": INT8, "pattern": DENSE.name}),
            "activations": recipe.activations.model_copy(update={"bits": UINT8}),
            "first": Layers(),
            "last": Layers(),
            "squeeze_excite": Layers(),
            "override": kept,
        }
    )


class Variants:
    """`quantized(...)` is the network at 8 bits, but for the formats it is given; rounded to nearest.

    float_graph: the float network that all variants come from, split for integers (prepare.py), and from
    `calibrate` on balanced (balance.py), if the recipe says so. depthwise: names of such layers.
    Weights that were rounded once are kept, so that a variant costs what is new in it.
    """

    def __init__(self, graph: Graph, recipe: Recipe) -> None:
        self.graph, self.recipe = graph, eight_bits(recipe)
        self.float_graph, self.asked = split_for_integers(graph, assignments(graph, self.recipe))
        self.depthwise = {name for name, found in roles(graph).items() if "depthwise" in found}
        self.seen: Mapping[str, Histogram] = {}
        self._rounded: dict[tuple[str, Format, float], QTensor] = {}
        self._nearest = to_nearest(self.recipe)
        self._owner = _owners(self.float_graph, graph)

    def calibrate(self, images: Iterable[np.ndarray], progress: Progress) -> None:
        """Records the values of the float network on `images`, arrays float32 [N, H, W, C]; where
        channels are balanced, all of them are held."""
        stream, kinds = regrouped(self.float_graph, images), self.recipe.activations.balance
        if chosen_streams(self.float_graph, kinds):
            kept = list(stream)
            self.float_graph, self._rounded, stream = (
                balance(self.float_graph, kinds, kept, progress),
                {},
                iter(kept),
            )
        weighted = self.recipe.activations.range == "fisher"
        self.seen = calibrate(self.float_graph, stream, self.recipe.seed, progress, weighted=weighted)

    def layers(self) -> list[str]:
        """Names of the layers whose weights are quantized, in order."""
        nodes = self.float_graph.nodes
        return [n.name for n in nodes if is_weighted(n) and self.asked[n.name].quantized]

    def activations(self) -> list[Shared]:
        """What 8 bits quantize of what the network makes, in groups of one format; without the image."""
        base, made = self.quantized(), producers(self.float_graph)
        quantized = {name.removesuffix(".codes") for name, value in base.values.items() if value.q}
        groups: list[tuple[set[str], set[str]]] = []
        for members in sharing(self.float_graph):
            if self.float_graph.input in members or not quantized.intersection(members):
                continue
            nodes = {self._owner[made[v].name] for v in members if not OPS[made[v].op].keeps_grid}
            values = set(members)
            for group in [group for group in groups if group[0] & nodes]:
                groups.remove(group)
                nodes, values = nodes | group[0], values | group[1]
            groups.append((nodes, values))
        order = {node.name: i for i, node in enumerate(self.graph.nodes)}
        found = [Shared(tuple(sorted(nodes, key=order.__getitem__)), frozenset(vs)) for nodes, vs in groups]
        return sorted(found, key=lambda group: order[group.nodes[0]])

    def quantized(self, weights: Formats | None = None, activations: Formats | None = None) -> Graph:
        """The quantized graph; formats by node name of the network, 8 bits where none is given. A layer whose
        weights have a float format runs in float32, in any other it computes on codes. Depthwise layers are
        dense."""
        weights, activations = weights or {}, activations or {}
        graph, base = self.float_graph, self.asked
        if any(format.is_float for format in weights.values()):
            graph, base = self._with_floats(weights)
        asked: dict[str, Assignment] = {}
        for name, assignment in base.items():
            owner = self._owner[name]
            if assignment.quantized:
                format = weights.get(owner, assignment.weights)
                assignment = replace(assignment, weights=format.dense if owner in self.depthwise else format)
            # of a float layer too: what it makes is rounded where it is read
            made = activations.get(owner, assignment.activations)
            asked[name] = replace(assignment, activations=made)
        return attach(graph, asked, self.recipe, self.seen, self._rounding)

    def _with_floats(self, weights: Formats) -> tuple[Graph, dict[str, Assignment]]:
        """The network split as compression splits it, in which float layers stay whole."""
        asked = assignments(self.graph, self.recipe)
        floats = {name: format for name, format in weights.items() if format.is_float}
        asked |= {name: replace(asked[name], weights=format) for name, format in floats.items()}
        return split_for_integers(self.graph, asked)

    def _rounding(self, node: Node, x: QParams, format: Format) -> QTensor:
        key = node.name, format, x.scale
        if key not in self._rounded:
            self._rounded[key] = self._nearest(node, x, format)
        return self._rounded[key]


def _owners(split: Graph, graph: Graph) -> dict[str, str]:
    """Node of the split graph to the node of `graph` that it is a part of."""
    known = {node.name for node in graph.nodes}
    return {
        node.name: node.name if node.name in known else node.name.rpartition(".")[0] for node in split.nodes
    }
