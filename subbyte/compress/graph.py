"""compress: a float graph, a recipe and images in; a quantized graph out."""

from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from subbyte.artifact.digest import graph_digest
from subbyte.compress.densities import with_densities
from subbyte.compress.stages import (
    ToldIn,
    assignments_at,
    last_stage,
    recipe_at,
    share_of,
    stages_of,
    trained,
)
from subbyte.compress.start import check_steps, checked_start
from subbyte.data.mapped import Mapped, folder_of_maps
from subbyte.device import find_target
from subbyte.errors import GraphError, InputError
from subbyte.execute.torch.steady import environment, fixed_threads, kept_memory
from subbyte.ir import Graph, verify
from subbyte.quant.format import FP32
from subbyte.quantize.assignment import Assignment, assignments
from subbyte.quantize.attach import attach, to_nearest
from subbyte.quantize.balance import balance, chosen_streams
from subbyte.quantize.calibrate import BATCH, Progress, calibrate, regrouped
from subbyte.quantize.prepare import split_for_integers
from subbyte.quantize.rate import rated_scales
from subbyte.recipes import STEPS, Recipe
from subbyte.steps.context import Context, check_step, function_of
from subbyte.system.folders import make_folder
from subbyte.tasks.table import kept_name, task_of

#: Images that gradients are taken of to weight errors, at most: each takes as long as a step of training.
WEIGHTED_IMAGES = 512
#: Memory for the calibration images that the steps work on, float32.
IMAGE_BYTES = 1 << 30


def compress(
    graph: Graph,
    recipe: Recipe,
    calibration: Iterable[np.ndarray],
    *,
    labels: np.ndarray | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
    work: Path | None = None,
    threads: int = 1,
    task: str | None = None,
    start: Graph | None = None,
) -> Graph:
    """The graph, quantized as the recipe says.

    graph: float32, batch norms folded (passes.optimize). calibration: preprocessed images in
    arrays float32 [N, H, W, C]; read once, never held as a whole unless a step or balanced channels need
    them, and then at most IMAGE_BYTES in memory, or all of them in a file where a step asks for that.
    labels: int64 [N], a class index for each image of all arrays, for steps that need them. seed: instead
    of the recipe's.
    progress: called with the name of what is being done and how far it is.
    work: a folder for the state of long steps; an interrupted run that is started again with equal
    arguments, by the same versions of subbyte and torch on such a CPU, goes on from there, to the
    same result.
    threads: of torch, whatever the caller has set. Same graph, recipe, seed, images and threads: same
    result. task: what the outputs mean, a name of tasks.TASKS; None: classification, where a step asks.
    start: a quantized form of the graph, whose weights, grids and bit-widths are taken instead of the
    recipe's, as its steps find them: nothing is calibrated or rounded.

    Raises InputError for unusable calibration images or labels, or outputs that do not fit the task,
    RecipeError if the recipe does not fit the graph, GraphError if the graph is not such a graph.
    """
    verify(graph)
    _check_float(graph)
    if task is not None or any("task" in recipe.needs(step) for step in recipe.steps):
        task_of(graph, task)
    with fixed_threads(threads), kept_memory():
        if start is not None:
            check_steps(recipe)
        asked = assignments(graph, recipe)
        early = [step for step in recipe.steps if STEPS[step].unrounded]
        shaping = tuple(step for step in early if STEPS[step].reshapes)
        first = tuple(step for step in early if step not in shaping)
        if start is None and all(t.weights == FP32 for t in asked.values()) and not early:
            return graph
        split, asked = split_for_integers(graph, asked)
        quantized = start is not None or any(t.quantized for t in asked.values())
        if not quantized and not early:
            return attach(split, asked, recipe, {})
        report = progress or (lambda stage, done: None)
        chosen_seed = recipe.seed if seed is None else seed
        check_labels(labels, recipe)
        for step in recipe.steps:
            check_step(STEPS[step], split, recipe.configuration(step), task)
        balances = bool(chosen_streams(split, recipe.activations.balance))
        weighted = recipe.activations.range == "fisher"
        rated = recipe.weights.range == "rate"
        several = balances or weighted or rated or bool(early)  # passes over the images
        needed = several or any("images" in recipe.needs(step) for step in recipe.steps)
        kept = _Kept(split, needed, _folder_of_images(recipe, work))
        stream = kept.all_of(regrouped(split, calibration), labels)
        if balances:
            split = balance(split, recipe.activations.balance, stream, report)
        elif several:
            deque(stream, maxlen=0)
        run = _Run(kept, labels, chosen_seed, report, work, threads, task)
        if start is not None:
            deque(stream, maxlen=0)
            return run.trained(checked_start(start, split), split, recipe)
        if shaping:
            run = replace(run, whole=split)
            split = run.unrounded(split, asked, last_stage(recipe), shaping)
        if first:
            run = replace(run, dense=split)
        if share_of(recipe) is not None:
            asked = run.distributed(split, asked, last_stage(recipe), kept.selection(weighted))
        for percent in stages_of(recipe):
            stage, staged = recipe_at(recipe, percent), assignments_at(asked, percent)
            part = replace(run, progress=ToldIn(report, percent))
            pruned = part.unrounded(split, staged, stage, first)
            split = trained(pruned, part.rounded(pruned, staged, stage, kept.selection(weighted)))
        if first:
            split = run.unrounded(split, asked, last_stage(recipe), first)
        if not quantized:
            return attach(split, asked, recipe, {})
        if several:
            stream = kept.selection(weighted)
        return run.rounded(split, asked, last_stage(recipe), stream)


@dataclass(frozen=True, eq=False)
class _Run:
    """What the stages of a compression share. dense, whole: see Context."""

    kept: _Kept
    labels: np.ndarray | None
    seed: int
    progress: Progress
    work: Path | None
    threads: int
    task: str | None
    dense: Graph | None = None
    whole: Graph | None = None

    def unrounded(
        self, graph: Graph, asked: Mapping[str, Assignment], recipe: Recipe, steps: tuple[str, ...]
    ) -> Graph:
        """The float graph after these steps, which work on floats; their state does not depend on others."""
        context = replace(self._before(graph, asked, recipe, steps), dense=self.dense, whole=self.whole)
        for step in steps:
            context = replace(context, configuration=recipe.configuration(step))
            made = verify(function_of(STEPS[step])(context))
            context = replace(context, graph=made, original=made)
        return context.original

    def distributed(
        self, graph: Graph, asked: dict[str, Assignment], recipe: Recipe, stream: Iterable[np.ndarray]
    ) -> dict[str, Assignment]:
        """What is asked of the nodes, with patterns that leave the share of work that `prune` asks for."""
        context = self._before(graph, asked, recipe, ("prune",))
        context = replace(context, configuration=recipe.configuration("prune"))
        weighted = recipe.activations.range == "fisher"
        seen = calibrate(graph, stream, self.seed, self.progress, weighted=weighted)
        return with_densities(context, asked, recipe, seen, find_target("host"))

    def _before(
        self, graph: Graph, asked: Mapping[str, Assignment], recipe: Recipe, steps: tuple[str, ...]
    ) -> Context:
        """What there is for steps that work on floats, whose folder does not depend on others."""
        formats = {name: found.weights for name, found in asked.items()}
        context = replace(self._context(graph, graph), formats=formats)
        if self.work is None:
            return context
        others = set(recipe.model_extra or {}) - set(steps)
        tables = {step: STEPS[step].configuration for step in others}
        plain = recipe.model_copy(update={"name": "-", "description": "", "steps": steps, **tables})
        return replace(context, work=_folder(self.work, context, plain, self.threads))

    def rounded(
        self,
        graph: Graph,
        asked: Mapping[str, Assignment],
        recipe: Recipe,
        stream: Iterable[np.ndarray],
    ) -> Graph:
        """The float graph calibrated on the stream, rounded, and after the steps that follow."""
        seen = calibrate(
            graph, stream, self.seed, self.progress, weighted=recipe.activations.range == "fisher"
        )
        rounding = None
        if recipe.weights.range == "rate":
            images = self.kept.selection(weighted=True)
            scales = rated_scales(graph, asked, recipe.weights.rate, images, self.seed, self.progress)
            rounding = to_nearest(recipe, scales)
        return self.trained(attach(graph, asked, recipe, seen, rounding), graph, recipe)

    def trained(self, rounded: Graph, graph: Graph, recipe: Recipe) -> Graph:
        """The quantized form of the float graph after the steps that follow rounding."""
        context = replace(self._context(rounded, graph), dense=self.dense, whole=self.whole)
        if self.work is not None and recipe.steps:
            context = replace(context, work=_folder(self.work, context, recipe, self.threads))
        for step in recipe.steps:
            if not STEPS[step].unrounded:
                context = replace(context, configuration=recipe.configuration(step))
                context = replace(context, graph=verify(function_of(STEPS[step])(context)))
        return context.graph

    def _context(self, graph: Graph, original: Graph) -> Context:
        images, shown = self.kept.images(), self.kept.labels(self.labels)
        return Context(graph, original, images, shown, None, self.seed, self.progress, task=self.task)


def check_labels(labels: np.ndarray | None, recipe: Recipe) -> None:
    """InputError for labels that are no class indices, or missing where a step of the recipe needs them."""
    for step in recipe.steps:
        if labels is None and "labels" in recipe.needs(step):
            raise InputError(f"the step {step!r} needs labels: the class index of each calibration image")
    if labels is not None and (labels.ndim != 1 or labels.dtype != np.int64):
        raise InputError(f"labels must be int64 [N], got {labels.dtype} {list(labels.shape)}")


def check_count(labels: np.ndarray | None, images: int) -> None:
    """InputError unless there is a label for each image, or none at all."""
    if labels is not None and len(labels) != images:
        raise InputError(f"there are {len(labels)} labels of {images} calibration images")


def _folder_of_images(recipe: Recipe, work: Path | None) -> Path | None:
    """Where images are kept in a file, None: in memory; the first step that asks for either decides."""
    asked = (getattr(recipe.configuration(step), "storage", "memory") for step in recipe.steps)
    return folder_of_maps(work) if "disk" in asked else None


def _folder(work: Path, context: Context, recipe: Recipe, threads: int) -> Path:
    """A folder inside `work` for exactly this job: its name digests all that the result depends on."""
    job = {
        "original": graph_digest(context.original),
        "rounded": graph_digest(context.graph),
        **({} if context.dense is None else {"dense": graph_digest(context.dense)}),
        **({} if context.whole is None else {"whole": graph_digest(context.whole)}),
        "recipe": recipe.model_dump(mode="json"),
        "seed": context.seed,
        "images": list(context.images.shape),
        **environment(threads),
        **kept_name(context.task),
    }
    digest = hashlib.sha256(json.dumps(job, sort_keys=True).encode())
    for array in (context.images, context.labels):
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    folder = work / digest.hexdigest()[:16]
    return make_folder(folder, f"the state of training in {work}", "choose another folder")


def _check_float(graph: Graph) -> None:
    for node in graph.nodes:
        if node.op == "batch_norm":
            raise GraphError(f"{node.op} {node.name!r} is not folded; apply subbyte.passes.optimize first")
    for value in graph.values.values():
        if value.q is not None:
            raise GraphError(f"value {value.name!r} is quantized already; compress the float32 graph")


class _Kept:
    """An even selection of a stream of images for what is done after one pass over them, in bounded
    memory; all of them in a file, if there is a folder for it.

    any_at_all: whether anything needs images then.
    """

    def __init__(self, graph: Graph, any_at_all: bool, folder: Path | None) -> None:
        self.any_at_all = any_at_all
        self.shape = graph.value(graph.input).shape
        self.most = max(8, IMAGE_BYTES // (4 * math.prod(self.shape)))
        self.stride, self.position = 1, 0
        self.kept: list[np.ndarray] = []
        self.mapped = None if folder is None or not any_at_all else Mapped(folder)

    def all_of(self, stream: Iterable[np.ndarray], labels: np.ndarray | None) -> Iterator[np.ndarray]:
        """Passes the stream on, remembering every stride-th image; the stride doubles when full.

        InputError if there are labels of more or fewer images.
        """
        for images in stream:
            if self.mapped is not None:
                self.mapped.add(images)
                self.position += len(images)
                yield images
                continue
            for image in images:
                if self.any_at_all and self.position % self.stride == 0:
                    self.kept.append(image)
                self.position += 1
            if len(self.kept) > self.most:
                self.kept, self.stride = self.kept[::2], self.stride * 2
            yield images
        check_count(labels, self.position)

    def batches(self, most: int | None = None) -> Iterator[np.ndarray]:
        """The kept images, or an even selection of at most so many, BATCH at a time."""
        images = self.kept if self.mapped is None else self.mapped.array()
        count = len(images)
        chosen = np.linspace(0, count - 1, min(count, most or count)).astype(int)
        for start in range(0, len(chosen), BATCH):
            yield np.stack([images[i] for i in chosen[start : start + BATCH]])

    def selection(self, weighted: bool) -> Iterator[np.ndarray]:
        """The kept images that calibration sees once more: fewer where it needs gradients."""
        return self.batches(WEIGHTED_IMAGES if weighted else None)

    def images(self) -> np.ndarray:
        if self.mapped is not None:
            return self.mapped.array()
        return np.stack(self.kept) if self.kept else np.empty((0, *self.shape), np.float32)

    def labels(self, labels: np.ndarray | None) -> np.ndarray | None:
        """Of the labels of all images, those of the kept ones."""
        if labels is None or self.mapped is not None:
            return labels
        return labels[:: self.stride][: len(self.kept)]
