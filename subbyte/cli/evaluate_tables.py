"""What `subbyte evaluate` found, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from subbyte.system.units import percent, points
from subbyte.tasks import Task, named
from subbyte.tasks.table import DEFAULT


def tables(result: dict[str, Any]) -> list[Table]:
    """result: what the command prints as JSON."""
    task = named(result.get("task", DEFAULT))
    table = Table(show_header=False, box=None)
    several = len(result.get("sets", ())) > 1
    if "images" in result:
        _lines(table, [("images", str(result["images"]))])
    if task.key in result:
        _lines(table, task.score_lines(result))
    if "agreement" in result:
        _lines(table, task.agreement_lines(result, result["reference"]))
    if "between_sets" in result:
        _between(table, result["between_sets"], task.title)
    if "transfer" in result:
        _transfer(table, result["transfer"])
    if "cue_conflict" in result:
        _cues(table, result["cue_conflict"])
    table.add_row("engine", f"{result['isa']}, {result['threads']} thread(s)")
    grids = [_grid(result["robustness"])] if "robustness" in result else []
    return [*([_sets(result, task)] if several else []), table, *grids]


def _lines(table: Table, lines: Sequence[tuple[str, str]]) -> None:
    for line in lines:
        table.add_row(*line)


def _sets(result: dict[str, Any], task: Task[Any]) -> Table:
    """A row for each set and one for all images together."""
    table = Table("set", box=None)
    compared = "reference" in result
    for heading in ("images", *task.columns(compared)):
        table.add_column(heading, justify="right")
    for row in [*result["sets"], {"data": "together"} | result]:
        mode = row.get("resize")
        name = row["data"] if mode is None else f"{row['data']}:{mode}"
        table.add_row(name, str(row["images"]), *task.cells(row, compared))
    return table


def _between(table: Table, between: dict[str, Any], title: str) -> None:
    table.add_row(
        "sets differ by",
        f"{100 * between['deviation']:.2f} points (standard deviation, from {between['sets']} sets)",
    )
    low, high = between["difference_interval_95"]
    table.add_row(f"  {title} with that", f"{points(between['difference'])}")
    table.add_row("", f"95 % interval {points(low)} to {points(high)}")


def _transfer(table: Table, bound: dict[str, Any]) -> None:
    low, high = bound["estimate_interval_95"]
    table.add_row("where that one has", f"{percent(bound['reference_accuracy'])}:")
    table.add_row(
        "  estimate", f"{percent(bound['estimate'])}  95 % interval {percent(low)} – {percent(high)}"
    )
    table.add_row("  worst case, 95 %", percent(bound["worst_case_95"]))
    factor = f"if losses were {bound['factor']:.1f} times as frequent as on these images"
    table.add_row(f"  {percent(bound['floor'])} only", factor)


def _cues(table: Table, cues: dict[str, Any]) -> None:
    bias = "–" if cues["shape_bias"] is None else percent(cues["shape_bias"])
    table.add_row("shape bias", f"{bias}  {cues['shape']} by shape, {cues['texture']} by texture")
    table.add_row("by shape", f"{cues['shape']} of {cues['images']}  {percent(cues['accuracy'])}")


def _grid(robust: dict[str, Any]) -> Table:
    n = robust["images"]
    table = Table("top-1 of corrupted images", box=None)
    for severity in robust["severities"]:
        table.add_column(f"severity {severity}", justify="right")
    table.add_column("mean", justify="right")
    for family, row in robust["top1"].items():
        shares = [count / n for count in row]
        table.add_row(family.replace("_", " "), *map(percent, shares), percent(sum(shares) / len(shares)))
    low, high = robust["mean_accuracy_interval_95"]
    relative = robust["relative_to_clean"]
    caption = f"mean {percent(robust['mean_accuracy'])} ({percent(low)} – {percent(high)})"
    caption += "" if relative is None else f", {percent(relative)} of that on the {n} clean images"
    if "difference" in robust:
        low, high = robust["difference_interval_95"]
        caption += (
            f"; beside the other artifact {points(robust['difference'])} ({points(low)} to {points(high)})"
        )
    table.caption, table.caption_justify = caption, "left"
    return table
