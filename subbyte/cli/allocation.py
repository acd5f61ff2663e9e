"""Budgets of `subbyte compress`: analysis, choice of widths, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from subbyte.artifact import Artifact
from subbyte.benchmark.quick_time import quick_time
from subbyte.cli.console import percent, printable, say, show, stages
from subbyte.data.held_back import LEAST, held_back
from subbyte.device.host import STALE
from subbyte.errors import InputError
from subbyte.execute.native import Session
from subbyte.metrics.accuracy import wilson_interval
from subbyte.report.units import size_text

if TYPE_CHECKING:
    from subbyte.allocate.allocator import Allocation, Allocator
    from subbyte.allocate.budget import Budget
    from subbyte.allocate.check import Checked
    from subbyte.analysis.degradation import Degradation
    from subbyte.analysis.table import Sensitivity
    from subbyte.ir import Graph
    from subbyte.models import LoadedModel
    from subbyte.quantize.variants import Variants
    from subbyte.recipes import Recipe

#: Calibration images that widths are tried on, at most.
ANALYSIS_IMAGES = 128
#: Where the provenance says what was measured on images held back.
HELD_BACK = "held_back"


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line. images: float32 [n, H, W, C] each, to compress with; held:
    such, to measure the result on; empty if there are too few."""

    model: str
    loaded: LoadedModel
    recipe: Recipe
    budget: Budget
    images: list[np.ndarray]
    held: list[np.ndarray]
    classes: tuple[str, ...] | None
    provenance: dict[str, Any]
    seed: int | None
    threads: int
    sensitivity: Sensitivity | None
    activation_bits: str
    task: str | None = None


@dataclass(frozen=True)
class Plan:
    """What was chosen. graph: the float network; components: by layer, for tables."""

    recipe: Recipe
    checked: Checked
    graph: Graph
    components: Mapping[str, str]


def allocated(request: Request) -> Plan:
    """The recipe with widths that keep the budget; prints how they were found.

    Raises InputError if no widths do.
    """
    from subbyte.allocate.check import Checker
    from subbyte.analysis.components import KINDS, components
    from subbyte.analysis.degradation import Meter
    from subbyte.data.classes import class_names
    from subbyte.execute.torch.steady import fixed_threads
    from subbyte.importers.torch_export import capture
    from subbyte.passes import optimize
    from subbyte.quantize.variants import Variants

    graph = optimize(capture(request.loaded.module, request.loaded.preprocessing.shape))
    class_names(request.classes, graph)  # refuses wrong ones before the work
    every = np.concatenate(request.images)
    searching = request.budget.drop is not None and request.budget.size is None
    used, unseen = held_back(range(len(every))) if searching else (range(len(every)), [])
    some = every[used][np.linspace(0, len(used) - 1, min(len(used), ANALYSIS_IMAGES)).astype(int)]
    recipe = request.recipe
    if request.seed is not None:
        recipe = recipe.model_copy(update={"seed": request.seed})
    variants = Variants(graph, recipe)
    with stages(f"choosing widths for {request.model}") as stage, fixed_threads(request.threads):
        table = _table(request, variants, some, stage)
        if not variants.seen:
            variants.calibrate([some], stage)
        allocator = _allocator(request, variants, table)
        # the smallest file is searched on images that its candidates have not seen, the held ones apart
        checker = Checker(
            allocator, Meter(graph, every[unseen] if unseen else some, task=request.task), some, stage
        )
        found = checker.smallest(request.budget) if searching else checker.best(request.budget)
    _check_time(request.budget, found.allocation, allocator)
    kinds = {name: KINDS[component.kind] for name, component in components(graph).items()}
    plan = Plan(found.allocation.recipe, found, graph, kinds)
    show(*_summary(plan))
    return plan


def _check_time(budget: Budget, chosen: Allocation, allocator: Allocator) -> None:
    """InputError if the network, timed as a whole, is slower than its layers' times promise."""
    if budget.latency is None:
        return
    timed = quick_time(Session(allocator.graph(chosen)))
    if timed.fastest > budget.latency:
        raise InputError(
            f"an image takes {timed.fastest:.3g} ms, the fastest of {timed.runs} runs, not the "
            f"{budget.latency:g} ms asked for, of which the layers' own times promised {chosen.latency:.3g}; "
            "allow that many, or ask for fewer, so that narrower widths are chosen"
        )


def _table(request: Request, variants: Variants, images: np.ndarray, stage: Any) -> Sensitivity:
    """The analysis: the user's own, a kept one, or a new one, which is kept."""
    from subbyte.analysis.sensitivity import analysis_key, sensitivity
    from subbyte.analysis.table import check_widths
    from subbyte.artifact.digest import graph_digest
    from subbyte.device.cache import cache_folder

    if request.sensitivity is not None:
        if request.sensitivity.network not in ("", graph_digest(variants.graph)):
            raise InputError(
                "--sensitivity is the analysis of another network; run `subbyte sensitivity` on this one"
            )
        return request.sensitivity
    widths = check_widths("activations", request.activation_bits)
    path = (
        cache_folder()
        / f"sensitivity-{analysis_key(variants, images, request.threads, request.task)[:16]}.json"
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot keep the analysis in {path.parent} ({error.strerror}); set XDG_CACHE_HOME"
        ) from None
    narrow = tuple(bits for bits in widths if bits != 8)
    return sensitivity(
        variants,
        images,
        model=printable(request.model),
        activations=narrow,
        output=path,
        threads=request.threads,
        progress=stage,
        task=request.task,
    )


def _allocator(request: Request, variants: Variants, table: Sensitivity) -> Allocator:
    from subbyte.allocate.allocator import Allocator
    from subbyte.allocate.costs import Costs
    from subbyte.allocate.refuse import Rules
    from subbyte.analysis.table import check_widths
    from subbyte.device import Host
    from subbyte.quant.qtensor import WEIGHT_BITS

    host = Host()
    host.measure({str(b): variants.quantized(dict.fromkeys(variants.layers(), b)) for b in WEIGHT_BITS})
    costs = Costs(variants, table, host, check_widths("activations", request.activation_bits), Rules())
    recipe = request.recipe.model_copy(update={"name": f"{request.recipe.name}-mixed"})

    def wrap(graph: Graph, recipe: Recipe) -> Artifact:
        from subbyte.compress.model import made_with
        from subbyte.data.classes import class_names
        from subbyte.tasks.table import kept_name

        made = made_with(recipe.seed if request.seed is None else request.seed, request.threads)
        return Artifact(
            graph,
            recipe.model_dump(mode="json"),
            request.loaded.preprocessing,
            class_names(request.classes, graph),
            {**request.provenance, **kept_name(request.task), **made, HELD_BACK: _room(request)},
        )

    purpose = f"{request.budget}, else as {request.recipe.name}"
    return Allocator(variants, costs, recipe, wrap, purpose)


def checked(request: Request, plan: Plan, artifact: Artifact) -> Artifact:
    """The finished artifact, if it keeps size and drop, with its degradation in the provenance; prints that
    and the time as measured.

    The degradation is that of the images held back, where there are any. Raises InputError naming what the
    network reaches instead.
    """
    from subbyte.allocate.check import lost
    from subbyte.analysis.degradation import Meter
    from subbyte.device import artifact_bytes

    budget, images = request.budget, np.concatenate(request.held or request.images)
    degradation = Meter(plan.graph, images, task=request.task).of(artifact.graph)
    found = _measured(degradation, len(images))
    kept = found if request.held else _room(request)
    artifact = replace(artifact, provenance={**artifact.provenance, HELD_BACK: kept})
    size = artifact_bytes(artifact)
    if budget.size is not None and size > budget.size:
        raise InputError(f"the file would have {size} bytes instead of {budget.size}; allow {size}")
    where = f"{len(images)} images " + ("held back" if request.held else "that it was made with")
    low, high = found["agreement_95"]
    say(
        f"finished: agreement {percent(degradation.agreement)} (95 %: {percent(low)} to {percent(high)}), "
        f"{degradation.loss_text} on {where}"
    )
    if not request.held:
        show(f"Too few images to hold any back: on others it agrees less. {LEAST} are enough.")
    show(*_time(artifact, plan.checked.allocation.latency))
    if budget.drop is not None and lost(degradation) > budget.drop:
        raise InputError(
            f"the finished network loses {lost(degradation):.2f} points on {where} (95 %: "
            f"{100 * (1 - high):.2f} to {100 * (1 - low):.2f}), more than {budget.drop:g}; allow that, or a "
            "larger file"
        )
    return artifact


def _measured(degradation: Degradation, images: int) -> dict[str, Any]:
    """What the provenance says of images held back; the interval is Wilson's, of 95 %."""
    agreeing = round(degradation.agreement * images)
    interval = [round(end, 4) for end in wilson_interval(agreeing, images)]
    kept = {"mse" if degradation.kl is None else "kl": round(degradation.loss, 4)}
    return {"images": images, "agreeing": agreeing, "agreement_95": interval, **kept}


def _room(request: Request) -> dict[str, Any]:
    """As long as what `_measured` will be, at least; what stands in the file if nothing was held back."""
    count = sum(map(len, request.held))
    if not count:
        return {"images": 0}
    return {"images": count, "agreeing": count, "agreement_95": [0.1111, 0.1111], "kl": 99.9999}


def _time(artifact: Artifact, promised: float) -> list[str]:
    """The network's time on this machine, and what puts it in doubt. promised: by its layers' times, ms."""
    timed = quick_time(Session(artifact))
    lines = [
        f"{timed.median:.3g} ms an image on one thread (median of {timed.runs} runs; fastest "
        f"{timed.fastest:.3g})"
    ]
    if timed.busy:
        lines.append("This machine was busy with other programs meanwhile: on its own it is faster.")
    if not 1 / STALE < promised / timed.median < STALE:
        lines.append(
            f"Widths were chosen by layers' times that add up to {promised:.3g} ms: the machine was busier "
            "then, or is now. Where time matters, run this again on an idle one."
        )
    return lines


def _summary(plan: Plan) -> list[Any]:
    found = plan.checked.allocation
    widths = sorted(set(found.weights.values()), reverse=True)
    counts = Table("component", box=None, title="Layers by bits of their weights", title_justify="left")
    for bits in widths:
        counts.add_column(str(bits), justify="right")
    for kind in dict.fromkeys(plan.components[name] for name in found.weights):
        by_bits = Counter(bits for name, bits in found.weights.items() if plan.components[name] == kind)
        counts.add_row(kind, *(str(by_bits[bits] or "") for bits in widths))
    kept = Table("layers that keep 8 bits", "why", box=None)
    for name, reason in found.reasons.items():
        kept.add_row(name, reason)
    facts = (
        f"chosen among {plan.checked.evaluations} networks, rounded to nearest: {size_text(found.size)}, "
        f"{plan.checked.degradation.loss_text} on the images that widths are chosen on"
    )
    return [counts, "", kept, "", facts]
