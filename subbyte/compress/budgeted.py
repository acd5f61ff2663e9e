"""Compression under a budget: a bit-width for every layer, and what the finished network really costs.

Bit-widths are chosen by an analysis of every layer alone (analysis/), an integer program over what they cost
(allocate/) and measurements of what it finds. Every fifth image is held back from all of that: on these the
degradation of the finished network is measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from subbyte.allocate.allocator import Allocator
from subbyte.allocate.budget import Budget
from subbyte.allocate.check import Checked, Checker, lost
from subbyte.allocate.costs import Costs
from subbyte.allocate.refuse import Rules
from subbyte.analysis.components import KINDS, components
from subbyte.analysis.degradation import Degradation, Meter
from subbyte.analysis.sensitivity import analysis_key, sensitivity
from subbyte.analysis.table import Sensitivity
from subbyte.artifact import Artifact
from subbyte.artifact.digest import graph_digest
from subbyte.compress.graph import check_count, check_labels
from subbyte.compress.job import Job
from subbyte.compress.quick_time import QuickTime, quick_time
from subbyte.data.held_back import held_back
from subbyte.device import Target, artifact_bytes, find_target
from subbyte.device.cache import cache_folder
from subbyte.device.conversion import conversions
from subbyte.errors import InputError
from subbyte.execute.native import Session
from subbyte.execute.torch.steady import fixed_threads
from subbyte.ir import Graph
from subbyte.metrics.accuracy import wilson_interval
from subbyte.quant import Format
from subbyte.quant.format import INT8, UINT8, WEIGHT_FORMATS
from subbyte.quant.pattern import DENSE, Pattern
from subbyte.quantize.calibrate import regrouped
from subbyte.quantize.variants import Variants
from subbyte.recipes import Recipe
from subbyte.system.folders import make_folder

#: Calibration images that bit-widths are tried on, at most.
ANALYSIS_IMAGES = 128
#: Where the provenance says what was measured on images held back.
HELD_BACK = "held_back"
#: Stands in a file whose size counts before it is finished: it has as many digits as a measurement.
PENDING = Degradation(kl=99.9999, mse=0.0, agreement=8 / 9)


@dataclass(frozen=True)
class Measured:
    """degradation: against float32, on so many `images`. held_back: whether nothing else has seen them."""

    degradation: Degradation
    images: int
    held_back: bool

    @property
    def agreeing(self) -> int:
        """Images with the same best class as in float32."""
        return round(self.degradation.agreement * self.images)

    @property
    def interval(self) -> tuple[float, float]:
        """Of the agreement, Wilson's, of 95 %."""
        return wilson_interval(self.agreeing, self.images)

    def record(self) -> dict[str, Any]:
        """What the provenance says of images held back."""
        if not self.held_back:
            return {"images": 0}
        interval = [round(end, 4) for end in self.interval]
        measure = "mse" if self.degradation.kl is None else "kl"
        loss = {measure: round(self.degradation.loss, 4)}
        return {"images": self.images, "agreeing": self.agreeing, "agreement_95": interval, **loss}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Measured:
        """What a `record` of at least one image says."""
        kl, agreement = record.get("kl"), record["agreeing"] / record["images"]
        found = Degradation(kl=kl, mse=record.get("mse", 0.0), agreement=agreement)
        return cls(found, record["images"], held_back=True)


@dataclass(frozen=True, eq=False)
class Divided:
    """images: what a network is made with; labels: theirs. held: of the images given, every fifth, that only
    the finished network sees; none if there are too few."""

    images: np.ndarray
    labels: np.ndarray | None
    held: np.ndarray

    @property
    def apart(self) -> bool:
        """Whether any are held back."""
        return len(self.held) > 0

    @property
    def judged_on(self) -> np.ndarray:
        """The images held back, else all."""
        return self.held if self.apart else self.images


def divided(
    job: Job, recipe: Recipe, calibration: Iterable[np.ndarray], labels: np.ndarray | None
) -> Divided:
    """The calibration images of a compression under a budget. InputError for labels that do not fit."""
    check_labels(labels, recipe)
    every = np.concatenate(list(regrouped(job.graph, calibration)))
    check_count(labels, len(every))
    used, unseen = held_back(range(len(every)))
    return Divided(every[used], None if labels is None else labels[used], every[unseen])


def with_record(artifact: Artifact, measured: Measured) -> Artifact:
    """The artifact, whose provenance says what was measured."""
    return replace(artifact, provenance={**artifact.provenance, HELD_BACK: measured.record()})


def check_size(size: int, most: int) -> None:
    """Raises InputError if a file is larger than it may be, in bytes."""
    if size > most:
        raise InputError(f"the file would have {size} bytes instead of {most}; allow {size}")


@dataclass(frozen=True, eq=False)
class Report:
    """What came of a budget.

    chosen: the bit-widths, their reasons and their degradation, rounded to nearest, on the images that they
    were chosen on. components: of every node, by name (stem, depthwise, ...). measured, time: of the finished
    network, the latter on this machine, None if that is not the target.
    """

    artifact: Artifact
    chosen: Checked
    components: Mapping[str, str]
    measured: Measured
    time: QuickTime | None

    @property
    def recipe(self) -> Recipe:
        """The recipe with the chosen bit-widths, which makes the same network without a budget."""
        return self.chosen.allocation.recipe


@dataclass(frozen=True, eq=False)
class Search:
    """What bit-widths are searched by. target: what time counts on. table: the analysis, None: one is made.
    activations: the bit-widths that activations may get. floats: the float formats that layers may stay
    in. patterns: the sparsity patterns that weights may have."""

    job: Job
    recipe: Recipe
    budget: Budget
    target: str = "host"
    table: Sensitivity | None = None
    activations: Sequence[Format] = (UINT8,)
    floats: Sequence[Format] = ()
    patterns: Sequence[Pattern] = ()


def within_budget(
    search: Search, calibration: Iterable[np.ndarray], labels: np.ndarray | None = None
) -> Report:
    """The finished artifact and what is to be said of it.

    Raises InputError if no bit-widths keep the budget, or the finished network does not.
    """
    job, budget, target = search.job, search.budget, find_target(search.target)
    given = divided(job, search.recipe, calibration, labels)
    with fixed_threads(job.threads):
        pending = Measured(PENDING, len(given.held), given.apart)
        chosen, graph = _chosen(search, target, given.images, pending)
    if budget.latency is not None and target.here:  # better known before the network is trained
        _check_speed(budget, quick_time(Session(graph)), chosen.allocation.latency)
    recipe = _without_idle_pruning(chosen.allocation.recipe, chosen.allocation.weights)
    artifact = job.compressed(recipe, [given.images], given.labels)
    meter = Meter(job.graph, given.judged_on, task=job.task)
    found = Measured(meter.of(artifact.graph), len(given.judged_on), given.apart)
    artifact = with_record(artifact, found)
    time = quick_time(Session(artifact)) if target.here else None
    kinds = {name: KINDS[component.kind] for name, component in components(job.graph).items()}
    report = Report(artifact, chosen, kinds, found, time)
    _check_finished(budget, report, target.memory(artifact.graph).activations)
    return report


def _chosen(search: Search, target: Target, images: np.ndarray, pending: Measured) -> tuple[Checked, Graph]:
    """The bit-widths, and the network with them, rounded to nearest."""
    job, budget = search.job, search.budget
    # the smallest file is searched on images that its candidates have not seen, those held back apart
    searching = budget.drop is not None and budget.size is None
    used, unseen = held_back(range(len(images))) if searching else (list(range(len(images))), [])
    some = images[used][np.linspace(0, len(used) - 1, min(len(used), ANALYSIS_IMAGES)).astype(int)]
    seed = search.recipe.seed if job.seed is None else job.seed
    variants = Variants(job.graph, search.recipe.model_copy(update={"seed": seed}))
    table = _table(search, variants, some)
    if not variants.seen:
        variants.calibrate([some], job.progress)
    _prepare(target, variants, table, search.floats)
    costs = Costs(variants, table, target, search.activations, Rules(), search.floats)
    allocator = _allocator(search, variants, costs, pending)
    meter = Meter(job.graph, images[unseen] if unseen else some, task=job.task)
    checker = Checker(allocator, meter, some, job.progress)
    found = checker.smallest(budget) if searching else checker.best(budget)
    return found, allocator.graph(found.allocation)


def _table(search: Search, variants: Variants, images: np.ndarray) -> Sensitivity:
    """The analysis: a given one, a kept one, or a new one, which is kept."""
    job, given = search.job, search.table
    if given is not None:
        if given.network not in ("", graph_digest(variants.graph)):
            raise InputError(
                "the sensitivity table is the analysis of another network; run `subbyte sensitivity` on this"
            )
        return given
    folder = cache_folder()
    make_folder(folder, f"the analysis in {folder}", "set XDG_CACHE_HOME")
    sparse = [
        replace(plain, pattern=pattern) for plain in WEIGHT_FORMATS.values() for pattern in search.patterns
    ]
    table = sensitivity(
        variants,
        images,
        model=str(job.provenance.get("model", "")),
        weights=(*WEIGHT_FORMATS.values(), *sparse, *search.floats),
        activations=tuple(format for format in search.activations if format != UINT8),
        output=folder / f"sensitivity-{analysis_key(variants, images, job.threads, job.task)[:16]}.json",
        threads=job.threads,
        progress=job.progress,
        task=job.task,
    )
    allowed = {DENSE, *search.patterns}  # a kept table may have more
    return table.model_copy(update={"rows": [row for row in table.rows if row.format.pattern in allowed]})


def _without_idle_pruning(recipe: Recipe, weights: Mapping[str, Format]) -> Recipe:
    """The recipe without the step that follows patterns, where no layer has got one."""
    if "prune" not in recipe.steps or any(format.pattern != DENSE for format in weights.values()):
        return recipe
    return recipe.model_copy(update={"steps": tuple(step for step in recipe.steps if step != "prune")})


def _allocator(search: Search, variants: Variants, costs: Costs, pending: Measured) -> Allocator:
    recipe = search.recipe.model_copy(update={"name": f"{search.recipe.name}-mixed"})

    def wrap(graph: Graph, recipe: Recipe) -> Artifact:
        return with_record(search.job.artifact(graph, recipe), pending)

    return Allocator(variants, costs, recipe, wrap, f"{search.budget}, else as {search.recipe.name}")


def _prepare(target: Target, variants: Variants, table: Sensitivity, floats: Sequence[Format]) -> None:
    """Tells the device what layers it will be asked for: the network's, in all formats of the analysis, and
    conversions to and from float layers."""
    analysed = [row.format for row in table.rows if row.kind == "weights" and not row.format.is_float]
    formats = dict.fromkeys((INT8, *analysed, *floats))
    target.prepare({str(f): variants.quantized(dict.fromkeys(variants.layers(), f)) for f in formats})
    shapes = {value.shape for value in variants.graph.values.values()} if floats else ()
    for shape in sorted(shapes):
        target.prepare({str(shape): conversions(shape)})


def _check_speed(budget: Budget, timed: QuickTime | None, promised: float) -> None:
    """InputError if the network, timed as a whole, is slower than its layers' times promise."""
    if budget.latency is not None and timed is not None and timed.fastest > budget.latency:
        raise InputError(
            f"an image takes {timed.fastest:.3g} ms, the fastest of {timed.runs} runs, not the "
            f"{budget.latency:g} ms asked for, of which the layers' own times promised {promised:.3g}; "
            "allow that many, or ask for fewer, so that narrower bit-widths are chosen"
        )


def _check_finished(budget: Budget, report: Report, memory: int) -> None:
    """InputError naming what the finished network reaches instead. memory: bytes of activations."""
    measured = report.measured
    if budget.size is not None:
        check_size(artifact_bytes(report.artifact), budget.size)
    if budget.memory is not None and memory > budget.memory:
        raise InputError(f"activations take {memory} bytes instead of {budget.memory}; allow {memory}")
    _check_speed(budget, report.time, report.chosen.allocation.latency)
    if budget.drop is not None and lost(measured.degradation) > budget.drop:
        low, high = measured.interval
        where = "held back" if measured.held_back else "that it was made with"
        raise InputError(
            f"the finished network loses {lost(measured.degradation):.2f} points on {measured.images} images "
            f"{where} (95 %: {100 * (1 - high):.2f} to {100 * (1 - low):.2f}), more than {budget.drop:g}; "
            "allow that, or a larger file"
        )
