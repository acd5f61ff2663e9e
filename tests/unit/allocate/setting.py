"""A device without measurements and an allocator for it, for the tests of allocation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from subbyte import Artifact
from subbyte.allocate.allocator import Allocator
from subbyte.allocate.costs import Costs
from subbyte.allocate.refuse import Rules
from subbyte.analysis.table import Sensitivity
from subbyte.device import Cost, Layer, Memory, Target
from subbyte.ir import Graph
from subbyte.preprocess import Preprocessing
from subbyte.quant import Format, activation_format, weight_format
from subbyte.quantize.variants import Variants
from subbyte.recipes import Recipe, load_recipe

PREPROCESSING = Preprocessing(8, 8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Simple:
    """A target that takes a microsecond per bit of weights and activations and 1000 numbers made."""

    name, here = "simple", False

    def prepare(self, graphs: Mapping[str, Graph]) -> None:
        pass

    def supports(self, layer: Layer, weights: Format | None, activations: Format) -> bool:
        return weights != weight_format(3)

    def cost(self, layer: Layer, weights: Format | None, activations: Format) -> Cost:
        bits = 2 if weights is None else weights.bits
        time = 1e-6 * float(np.prod(layer.output)) * (bits + activations.bits)
        return Cost(time, layer.moved(weights, activations))

    def memory(self, graph: Graph) -> Memory:
        return Memory(activations=5000, weights=0)


def wrap(graph: Graph, recipe: Recipe) -> Artifact:
    return Artifact(graph, recipe.model_dump(mode="json"), PREPROCESSING)


def allocator(
    variants: Variants,
    table: Sensitivity,
    activations: tuple[int, ...] = (8,),
    rules: Rules | None = None,
    floats: tuple[Format, ...] = (),
    target: Target | None = None,
) -> Allocator:
    formats = [activation_format(bits) for bits in activations]
    costs = Costs(variants, table, target or Simple(), formats, rules or Rules(acceptable=100.0), floats)
    return Allocator(variants, costs, load_recipe("w4a8"), wrap)
