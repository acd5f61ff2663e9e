"""What `subbyte evaluate` found, for people."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from subbyte.system.units import percent


def tables(result: dict[str, Any]) -> list[Table]:
    """result: what the command prints as JSON."""
    table = Table(show_header=False, box=None)
    several = len(result.get("sets", ())) > 1
    if "images" in result:
        _accuracy(table, result)
    if "agreement" in result:
        _comparison(table, result)
    if "between_sets" in result:
        _between(table, result["between_sets"])
    if "transfer" in result:
        _transfer(table, result["transfer"])
    if "cue_conflict" in result:
        _cues(table, result["cue_conflict"])
    table.add_row("engine", f"{result['isa']}, {result['threads']} thread(s)")
    grids = [_grid(result["robustness"])] if "robustness" in result else []
    return [*([_sets(result)] if several else []), table, *grids]


def _sets(result: dict[str, Any]) -> Table:
    """A row for each set and one for all images together."""
    table = Table("set", box=None)
    compared = "reference" in result
    for heading in ("images", "top-1", "95 % interval"):
        table.add_column(heading, justify="right")
    if compared:
        for heading in ("same best class", "95 % interval", "lost", "gained", "top-1 beside it"):
            table.add_column(heading, justify="right")
        table.add_column("McNemar p", justify="right")
    for row in [*result["sets"], {"data": "together"} | result]:
        mode = row.get("resize")
        name = row["data"] if mode is None else f"{row['data']}:{mode}"
        cells = [str(row["images"]), *_share(row, "top1")]
        table.add_row(name, *cells, *(_changes(row) if compared else ()))
    return table


def _changes(row: dict[str, Any]) -> list[str]:
    cells = _share(row, "agreement")
    if "lost" not in row:
        return [*cells, "–", "–", "–", "–"]
    change = f"{points(row['difference'])} {_signed_interval(row)}"
    return [*cells, str(row["lost"]), str(row["gained"]), change, f"{row['mcnemar_p']:.2g}"]


def _share(row: dict[str, Any], key: str) -> list[str]:
    """A count with its share, and the share's interval; dashes if it was not counted."""
    if key not in row:
        return ["–", "–"]
    low, high = row[f"{key}_interval_95"]
    return [f"{row[key]}  {percent(row[key] / row['images'])}", f"{percent(low)} – {percent(high)}"]


def _signed_interval(row: dict[str, Any]) -> str:
    low, high = row["difference_interval_95"]
    return f"({100 * low:+.2f} to {100 * high:+.2f})"


def _between(table: Table, between: dict[str, Any]) -> None:
    table.add_row(
        "sets differ by",
        f"{100 * between['deviation']:.2f} points (standard deviation, from {between['sets']} sets)",
    )
    low, high = between["difference_interval_95"]
    table.add_row("  top-1 with that", f"{points(between['difference'])}")
    table.add_row("", f"95 % interval {points(low)} to {points(high)}")


def _accuracy(table: Table, result: dict[str, Any]) -> None:
    n = result["images"]
    table.add_row("images", str(n))
    if "top1" not in result:
        return
    low, high = result["top1_interval_95"]
    table.add_row("top-1", f"{result['top1']} of {n}  {percent(result['top1_rate'])}")
    table.add_row("", f"95 % interval {percent(low)} – {percent(high)}")
    table.add_row("top-5", f"{result['top5']} of {n}  {percent(result['top5_rate'])}")
    table.add_row("calibration error", percent(result["calibration_error"]))


def _comparison(table: Table, result: dict[str, Any]) -> None:
    n = result["images"]
    low, high = result["agreement_interval_95"]
    share = percent(result["agreement"] / n)
    table.add_row("same best class", f"{result['agreement']} of {n}  {share}  as {result['reference']}")
    table.add_row("", f"95 % interval {percent(low)} – {percent(high)}, {result['changed']} changed")
    if "lost" not in result:
        return
    low, high = result["difference_interval_95"]
    table.add_row(
        "top-1 beside it", f"{points(result['difference'])}: {result['lost']} lost, {result['gained']} gained"
    )
    table.add_row("", f"95 % interval {points(low)} to {points(high)}, McNemar p = {result['mcnemar_p']:.2g}")


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


def points(share: float) -> str:
    """A difference of shares in percentage points."""
    return f"{100 * share:+.2f} points"
