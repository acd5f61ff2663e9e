"""compress: a float graph, a recipe and images in; a quantized graph out."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from subbyte.artifact.digest import graph_digest
from subbyte.errors import GraphError, InputError
from subbyte.execute.torch.steady import environment, fixed_threads, kept_memory
from subbyte.ir import Graph, verify
from subbyte.ir.limits import peak_live_bytes
from subbyte.quantize.assignment import assignments
from subbyte.quantize.attach import attach
from subbyte.quantize.calibrate import Progress, batches, calibrate
from subbyte.quantize.prepare import split_for_integers
from subbyte.recipes import Recipe
from subbyte.steps.bias_correction import correct_biases
from subbyte.steps.distill import distill
from subbyte.steps.reconstruct import reconstruct
from subbyte.tasks.table import kept_name, task_of

#: Memory for the values of all images at once, while biases are corrected layer by layer.
LAYERWISE_BYTES = 1 << 30
#: Memory for the calibration images that the steps work on, float32.
IMAGE_BYTES = 1 << 30


def compress(
    graph: Graph,
    recipe: Recipe,
    calibration: Iterable[np.ndarray],
    *,
    seed: int | None = None,
    progress: Progress | None = None,
    work: Path | None = None,
    threads: int = 1,
    task: str | None = None,
) -> Graph:
    """The graph, quantized as the recipe says.

    graph: float32, batch norms folded (passes.optimize). calibration: preprocessed images in
    arrays float32 [N, H, W, C]; read once, never held as a whole unless a step needs them, and
    then at most IMAGE_BYTES. seed: instead of the recipe's.
    progress: called with the name of what is being done and how far it is.
    work: a folder for the state of long steps; an interrupted run that is started again with equal
    arguments, by the same versions of subbyte and torch on such a CPU, goes on from there, to the
    same result.
    threads: of torch, whatever the caller has set. Same graph, recipe, seed, images and threads: same
    result. task: what the outputs mean, a name of tasks.TASKS; None: classification, where a step asks.

    Raises InputError for unusable calibration images or outputs that do not fit the task, RecipeError if the
    recipe does not fit the graph, GraphError if the graph is not such a graph.
    """
    verify(graph)
    _check_float(graph)
    if task is not None or "distill" in recipe.steps:
        task_of(graph, task)
    with fixed_threads(threads), kept_memory():
        return _compressed(graph, recipe, calibration, seed, progress, work, threads, task)


def _compressed(
    graph: Graph,
    recipe: Recipe,
    calibration: Iterable[np.ndarray],
    seed: int | None,
    progress: Progress | None,
    work: Path | None,
    threads: int,
    task: str | None,
) -> Graph:
    asked = assignments(graph, recipe)
    if all(t.precision == "fp32" for t in asked.values()):
        return graph
    split, asked = split_for_integers(graph, asked)
    if all(t.precision != "int" for t in asked.values()):
        return attach(split, asked, recipe, {})
    report = progress or (lambda stage, done: None)
    chosen_seed = recipe.seed if seed is None else seed
    kept = _Kept(split)
    stream = batches(split, calibration)
    seen = calibrate(split, kept.all_of(stream) if recipe.steps else stream, chosen_seed, report)
    result = attach(split, asked, recipe, seen)
    if not recipe.steps:
        return result
    images = kept.images()
    folder = (
        None if work is None else _folder(work, split, result, recipe, chosen_seed, images, threads, task)
    )
    for step in recipe.steps:
        if step == "bias_correction":
            result = correct_biases(result, split, _fewer(split, images), report)
        elif step == "reconstruct":
            result = reconstruct(result, split, images, recipe.reconstruct, chosen_seed, report, folder)
        else:
            result = distill(result, split, images, recipe.distill, chosen_seed, report, folder, task)
        verify(result)
    return result


def _folder(
    work: Path,
    original: Graph,
    rounded: Graph,
    recipe: Recipe,
    seed: int,
    images: np.ndarray,
    threads: int,
    task: str | None,
) -> Path:
    """A folder inside `work` for exactly this job: its name digests all that the result depends on."""
    job = {
        "original": graph_digest(original),
        "rounded": graph_digest(rounded),
        "recipe": recipe.model_dump(mode="json"),
        "seed": seed,
        "images": list(images.shape),
        **environment(threads),
        **kept_name(task),
    }
    digest = hashlib.sha256(json.dumps(job, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(images).data)
    folder = work / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot keep the state of training in {work}: {error.strerror}; choose another folder"
        ) from None
    return folder


def _fewer(graph: Graph, images: np.ndarray) -> np.ndarray:
    """An even selection of the images whose values, all at once, fit LAYERWISE_BYTES."""
    # the values of this graph and, a byte each, those of the quantized one
    most = max(8, LAYERWISE_BYTES * 4 // (5 * peak_live_bytes(graph)))
    stride = 1
    while len(images) > most * stride:
        stride *= 2
    return images[::stride]


def _check_float(graph: Graph) -> None:
    for node in graph.nodes:
        if node.op == "batch_norm":
            raise GraphError(f"batch norm {node.name!r} is not folded; apply subbyte.passes.optimize first")
    for value in graph.values.values():
        if value.q is not None:
            raise GraphError(f"value {value.name!r} is quantized already; compress the float32 graph")


class _Kept:
    """An even selection of a stream of images for the steps after calibration, in bounded memory."""

    def __init__(self, graph: Graph) -> None:
        self.most = max(8, IMAGE_BYTES // (4 * math.prod(graph.value(graph.input).shape)))
        self.stride, self.position = 1, 0
        self.kept: list[np.ndarray] = []

    def all_of(self, stream: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Passes the stream on, remembering every stride-th image; the stride doubles when full."""
        for images in stream:
            for image in images:
                if self.position % self.stride == 0:
                    self.kept.append(image)
                self.position += 1
            if len(self.kept) > self.most:
                self.kept, self.stride = self.kept[::2], self.stride * 2
            yield images

    def images(self) -> np.ndarray:
        return np.stack(self.kept)
