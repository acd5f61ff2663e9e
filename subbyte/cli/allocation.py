"""Budgets of `subbyte compress`: analysis, choice of widths, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from subbyte.artifact import Artifact
from subbyte.cli.console import megabytes, percent, show, stages
from subbyte.errors import InputError

if TYPE_CHECKING:
    from subbyte.compress.allocate import Allocator
    from subbyte.compress.allocate_check import Checked
    from subbyte.compress.budget import Budget
    from subbyte.compress.sensitivity_table import Sensitivity
    from subbyte.compress.variants import Variants
    from subbyte.ir import Graph
    from subbyte.models import LoadedModel
    from subbyte.recipes import Recipe

#: Calibration pictures that widths are tried on, at most.
ANALYSIS_PICTURES = 128


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line. pictures: float32 [n, H, W, 3] each."""

    model: str
    loaded: LoadedModel
    recipe: Recipe
    budget: Budget
    pictures: list[np.ndarray]
    classes: tuple[str, ...] | None
    provenance: dict[str, Any]
    seed: int | None
    threads: int
    sensitivity: Path | None
    activation_bits: str


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
    from subbyte.capture import capture
    from subbyte.compress.allocate_check import Checker
    from subbyte.compress.components import KINDS, components
    from subbyte.compress.damage import Meter
    from subbyte.compress.steady import fixed_threads
    from subbyte.compress.variants import Variants
    from subbyte.passes import optimize

    p = request.loaded.preprocessing
    graph = optimize(capture(request.loaded.module, (p.height, p.width, 3)))
    every = np.concatenate(request.pictures)
    some = every[np.linspace(0, len(every) - 1, min(len(every), ANALYSIS_PICTURES)).astype(int)]
    recipe = request.recipe
    if request.seed is not None:
        recipe = recipe.model_copy(update={"seed": request.seed})
    variants = Variants(graph, recipe)
    with stages(f"choosing widths for {request.model}") as stage, fixed_threads(request.threads):
        table = _table(request, variants, some, stage)
        if not variants.seen:
            variants.calibrate([some], stage)
        allocator = _allocator(request, variants, table)
        judged = some if request.budget.drop is None else every  # a drop is one of all pictures
        checker = Checker(allocator, Meter(graph, judged), some, stage)
        if request.budget.drop is not None and request.budget.size is None:
            found = checker.smallest(request.budget)
        else:
            found = checker.best(request.budget)
    kinds = {name: KINDS[component.kind] for name, component in components(graph).items()}
    plan = Plan(found.allocation.recipe, found, graph, kinds)
    show(*_summary(request, plan, table))
    return plan


def _table(request: Request, variants: Variants, pictures: np.ndarray, stage: Any) -> Sensitivity:
    """The analysis: the user's own, a kept one, or a new one, which is kept."""
    from subbyte.artifact.digest import graph_digest
    from subbyte.compress.sensitivity import analysis_key, sensitivity
    from subbyte.compress.sensitivity_table import check_widths, read_sensitivity
    from subbyte.device.cache import cache_folder

    if request.sensitivity is not None:
        table = read_sensitivity(request.sensitivity)
        if table.network not in ("", graph_digest(variants.graph)):
            raise InputError(
                f"{request.sensitivity} is the analysis of another network; run `subbyte sensitivity` on "
                "this one"
            )
        return table
    widths = check_widths("activations", request.activation_bits)
    path = cache_folder() / f"sensitivity-{analysis_key(variants, pictures, request.threads)[:16]}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot keep the analysis in {path.parent} ({error.strerror}); set XDG_CACHE_HOME"
        ) from None
    narrow = tuple(bits for bits in widths if bits != 8)
    return sensitivity(
        variants,
        pictures,
        model=request.model,
        activations=narrow,
        output=path,
        threads=request.threads,
        progress=stage,
    )


def _allocator(request: Request, variants: Variants, table: Sensitivity) -> Allocator:
    from subbyte.compress.allocate import Allocator
    from subbyte.compress.allocate_costs import Costs
    from subbyte.compress.allocate_refuse import Rules
    from subbyte.compress.sensitivity_table import check_widths
    from subbyte.device import Host
    from subbyte.quant.qtensor import WEIGHT_BITS

    host = Host()
    host.measure({str(b): variants.quantized(dict.fromkeys(variants.layers(), b)) for b in WEIGHT_BITS})
    costs = Costs(variants, table, host, check_widths("activations", request.activation_bits), Rules())
    recipe = request.recipe.model_copy(update={"name": f"{request.recipe.name}-mixed"})

    def wrap(graph: Graph, recipe: Recipe) -> Artifact:
        from subbyte.evaluate.classes import default_classes
        from subbyte.pipeline import made_with

        outputs = graph.value(graph.outputs[0]).shape[-1]
        made = made_with(recipe.seed if request.seed is None else request.seed, request.threads)
        return Artifact(
            graph,
            recipe.model_dump(mode="json"),
            request.loaded.preprocessing,
            default_classes(outputs) if request.classes is None else request.classes,
            {**request.provenance, **made},
        )

    return Allocator(variants, costs, recipe, wrap)


def checked(request: Request, plan: Plan, artifact: Artifact) -> Artifact:
    """The finished artifact, if it keeps size and drop; prints its measured damage.

    Raises InputError naming what it reaches instead.
    """
    from subbyte.compress.allocate_check import lost
    from subbyte.compress.damage import Meter
    from subbyte.device import artifact_bytes

    budget, size = request.budget, artifact_bytes(artifact)
    if budget.size is not None and size > budget.size:
        raise InputError(f"the file would have {size} bytes instead of {budget.size}; allow {size}")
    damage = Meter(plan.graph, np.concatenate(request.pictures)).of(artifact.graph)
    show(
        f"finished: KL {damage.kl:.4f} nats, agreement {percent(damage.agreement)} on all "
        f"{sum(map(len, request.pictures))} pictures"
    )
    if budget.drop is not None and lost(damage) > budget.drop:
        raise InputError(
            f"the finished network loses {lost(damage):.2f} points, more than {budget.drop:g}; the nearest "
            f"that these budgets reach is {lost(damage):.2f}: allow that, or a larger file"
        )
    return artifact


def _summary(request: Request, plan: Plan, table: Sensitivity) -> list[Any]:
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
    damage = plan.checked.damage
    expected = table.base.kl + found.damage
    facts = (
        f"file {megabytes(found.size)}, {found.latency:.3g} ms by the layers' measured times; rounded to "
        f"nearest: KL {damage.kl:.4f} nats (predicted {expected:.4f}), agreement "
        f"{percent(damage.agreement)}; {plan.checked.evaluations} networks measured"
    )
    return [counts, "", kept, "", facts]
