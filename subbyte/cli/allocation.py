"""Budgets of `subbyte compress`: how they are written, and what came of one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from subbyte.cli.console import say, show
from subbyte.data.held_back import LEAST
from subbyte.device.host import STALE
from subbyte.ir.graph import producers
from subbyte.ir.shares import activations
from subbyte.quant.format import FP32
from subbyte.system.units import percent, size_text

if TYPE_CHECKING:
    from subbyte.allocate.budget import Budget
    from subbyte.artifact import Artifact
    from subbyte.compress.budgeted import Measured, Report
    from subbyte.quant import Format
    from subbyte.recipes import Recipe


def parse_budget(
    size: str | None,
    latency: str | None,
    memory: str | None,
    drop: float | None,
    activation_bits: float | None = None,
    energy: str | None = None,
) -> Budget:
    """The options with their units. InputError for one that is no number above 0."""
    from subbyte.allocate.budget import Budget, parse_bytes, parse_millijoules, parse_milliseconds

    return Budget(
        None if size is None else parse_bytes("--size", size),
        None if latency is None else parse_milliseconds("--latency", latency),
        None if memory is None else parse_bytes("--memory", memory),
        drop,
        activation_bits,
        None if energy is None else parse_millijoules("--energy", energy),
    )


def show_report(report: Report, write_recipe: Path | None) -> None:
    """Prints what was chosen and measured, and writes the recipe to a file if one is given."""
    show(*_choice(report))
    say(_agreement(report.measured))
    if not report.measured.held_back:
        show(f"Too few images to hold any back: on others it agrees less. {LEAST} are enough.")
    show(*_time(report))
    _write(report.recipe, write_recipe)


def show_rate(artifact: Artifact, write_recipe: Path | None) -> None:
    """Prints what came of a file's size: bits of a weight in it, and agreement. Writes the recipe with the
    rate that was chosen to a file if one is given."""
    from subbyte.artifact.compact import coded_bits
    from subbyte.compress.budgeted import HELD_BACK, Measured
    from subbyte.recipes import Recipe

    _write(Recipe.model_validate(artifact.recipe), write_recipe)
    found = artifact.provenance[HELD_BACK]
    say(f"weights take {coded_bits(artifact.graph) or 0.0:.2f} bits each in the file")
    if not found["images"]:
        show(f"Too few images to hold any back. {LEAST} are enough.")
        return
    say(_agreement(Measured.of(found)))


def _write(recipe: Recipe, path: Path | None) -> None:
    """The recipe as a file, if one is asked for."""
    if path is not None:
        from subbyte.allocate.recipe import to_toml
        from subbyte.system.text_file import write_text

        write_text(path, to_toml(recipe))


def _choice(report: Report) -> list[Any]:
    found, components = report.chosen.allocation, report.components
    formats = sorted(set(found.weights.values()), key=lambda format: -format.width)
    counts = Table("component", box=None, title="Layers by bits of their weights", title_justify="left")
    for format in formats:
        counts.add_column(str(format.short), justify="right")
    for kind in dict.fromkeys(components[name] for name in found.weights):
        by_format = Counter(each for name, each in found.weights.items() if components[name] == kind)
        counts.add_row(kind, *(str(by_format[format] or "") for format in formats))
    kept = Table("layers that keep 8 bits", "why", box=None)
    for name, reason in found.reasons.items():
        kept.add_row(name, reason)
    floats = Table("layers that stay in floating point", "why", box=None)
    for name, reason in found.floats.items():
        floats.add_row(name, reason)
    more = [_activations(report), ""] if found.activations else []
    more += [floats, ""] if found.floats else []
    facts = (
        f"chosen among {report.chosen.evaluations} networks, rounded to nearest: {size_text(found.size)}, "
        f"{report.chosen.degradation.loss_text} on the images that bit-widths are chosen on"
    )
    return [counts, "", kept, "", *more, facts]


def _activations(report: Report) -> Table:
    """Values that layers make, as `ir.shares` counts them, by component and format."""
    graph, components = report.artifact.graph, report.components
    made = producers(graph)
    counts: dict[str, Counter[Format]] = {}
    for value in activations(graph):
        name = made[value.name].name  # of a node, or of a part that it was split into
        kind = components.get(name) or components[name.rpartition(".")[0]]
        counts.setdefault(kind, Counter())[FP32 if value.q is None else value.q.format] += 1
    formats = sorted({format for each in counts.values() for format in each}, key=lambda f: -f.width)
    table = Table("component", box=None, title="Layers by bits of their activations", title_justify="left")
    for format in formats:
        table.add_column(str(format.short), justify="right")
    for kind, by_format in counts.items():
        table.add_row(kind, *(str(by_format[format] or "") for format in formats))
    return table


def _agreement(measured: Measured) -> str:
    low, high = measured.interval
    where = "held back" if measured.held_back else "that it was made with"
    return (
        f"finished: agreement {percent(measured.degradation.agreement)} (95 %: {percent(low)} to "
        f"{percent(high)}), {measured.degradation.loss_text} on {measured.images} images {where}"
    )


def _time(report: Report) -> list[str]:
    """The network's time, and what puts it in doubt."""
    timed, promised = report.time, report.chosen.allocation.latency
    if timed is None:
        joule = report.chosen.allocation.energy
        price = f"{promised:.3g} ms" + ("" if joule is None else f" and {joule:.3g} mJ")
        return [f"{price} an image is what the target promises; on it, nothing was measured."]
    lines = [
        f"{timed.median:.3g} ms an image on one thread (median of {timed.runs} runs; fastest "
        f"{timed.fastest:.3g})"
    ]
    if timed.busy:
        lines.append("This machine was busy with other programs meanwhile: on its own it is faster.")
    if any(format.width < 8 for format in report.chosen.allocation.activations.values()):
        lines.append(
            "Activations of fewer than 8 bits lie one a byte on this engine: they save no time and no memory."
        )
    if not 1 / STALE < promised / timed.median < STALE:
        lines.append(
            f"Bit-widths were chosen by layers' times that add up to {promised:.3g} ms: the machine was "
            "busier then, or is now. Where time matters, run this again on an idle one."
        )
    return lines
