"""compress: a float graph, a recipe and pictures in; a quantized graph out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from subbyte.compress.attach import attach
from subbyte.compress.bias_correction import correct_biases
from subbyte.compress.calibrate import Progress, batches, calibrate
from subbyte.compress.prepare import split_for_integers
from subbyte.compress.treatment import treatments
from subbyte.errors import GraphError
from subbyte.ir import Graph, verify
from subbyte.ir.limits import peak_live_bytes
from subbyte.recipes import Recipe

#: Memory for the values of all kept pictures at once, while a step works layer by layer.
STEP_BYTES = 1 << 30


def compress(
    graph: Graph,
    recipe: Recipe,
    calibration: Iterable[np.ndarray],
    *,
    seed: int | None = None,
    progress: Progress | None = None,
) -> Graph:
    """The graph, quantized as the recipe says.

    graph: float32, batch norms folded (passes.optimize). calibration: preprocessed pictures in
    arrays float32 [N, H, W, C]; read once, never held as a whole. seed: instead of the recipe's.
    progress: called with the name of what is being done and how far it is.
    Same graph, recipe, seed and pictures: same result.

    Raises InputError for unusable calibration pictures, RecipeError if the recipe does not fit
    the graph, GraphError if the graph is not such a graph.
    """
    verify(graph)
    _check_float(graph)
    asked = treatments(graph, recipe)
    if all(t.precision == "fp32" for t in asked.values()):
        return graph
    split, asked = split_for_integers(graph, asked)
    if all(t.precision != "int" for t in asked.values()):
        return attach(split, asked, recipe, {})
    report = progress or (lambda stage, done: None)
    kept = _Kept(split)
    stream = kept.all_of(batches(split, calibration))
    seen = calibrate(split, stream, recipe.seed if seed is None else seed, report)
    result = attach(split, asked, recipe, seen)
    for step in recipe.steps:
        result = verify(_STEPS[step](result, split, kept.images(), report))
    return result


_STEPS = {"bias_correction": correct_biases}


def _check_float(graph: Graph) -> None:
    for node in graph.nodes:
        if node.op == "batch_norm":
            raise GraphError(f"batch norm {node.name!r} is not folded; apply subbyte.passes.optimize first")
    for value in graph.values.values():
        if value.q is not None:
            raise GraphError(f"value {value.name!r} is quantized already; compress the float32 graph")


class _Kept:
    """An even selection of a stream of pictures for the steps after calibration, in bounded memory."""

    def __init__(self, graph: Graph) -> None:
        # a step may hold the values of this graph and, a byte each, those of the quantized one
        self.most = max(8, STEP_BYTES * 4 // (5 * peak_live_bytes(graph)))
        self.stride, self.position = 1, 0
        self.pictures: list[np.ndarray] = []

    def all_of(self, stream: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Passes the stream on, remembering every stride-th picture; the stride doubles when full."""
        for images in stream:
            for image in images:
                if self.position % self.stride == 0:
                    self.pictures.append(image)
                self.position += 1
            if len(self.pictures) > self.most:
                self.pictures, self.stride = self.pictures[::2], self.stride * 2
            yield images

    def images(self) -> np.ndarray:
        return np.stack(self.pictures)
