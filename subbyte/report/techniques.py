"""What each candidate gains and costs beside the baseline: one table, for the page, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from subbyte.ir.shares import shares_text
from subbyte.report.entry import Entry
from subbyte.report.headline import drop_interval, signed
from subbyte.report.markdown_text import plain, row
from subbyte.system.units import percent, size_text
from subbyte.tasks import Task


class Cell(NamedTuple):
    """What stands in large and in small letters."""

    text: str
    note: str = ""


def technique_table(
    entries: Sequence[Entry],
    reference: str,
    fastest_float: str | None = None,
    without: Collection[str] = (),
    title: str = "top-1",
) -> tuple[list[str], list[list[Cell]]]:
    """Headings and rows, without some columns and those in which nothing was measured. reference: the
    name of the entry that sizes and answers are compared with; fastest_float: that speeds are. title: what is
    scored."""
    base = next(entry for entry in entries if entry.name == reference)
    found = {heading: [cell(entry, base) for entry in entries] for heading, cell in COLUMNS.items()}
    shown = [h for h in found if h not in without and any(cell.text != "–" for cell in found[h])]
    named = {"top-1": title, "speedup": f"speedup vs {fastest_float}" if fastest_float else "speedup"}
    rows = [[found[heading][i] for heading in shown] for i in range(len(entries))]
    return [named.get(heading, heading) for heading in shown], rows


def markdown_table(
    entries: Sequence[Entry], reference: str, fastest_float: str | None = None, title: str = "top-1"
) -> str:
    """The same as a Markdown table, in which no name is markup."""
    headings, rows = technique_table(entries, reference, fastest_float, title=title)
    lines = [row([plain(heading) for heading in headings]), row(["---", *["---:"] * (len(headings) - 1)])]
    for cells in rows:
        lines.append(row([plain(f"{c.text} ({c.note})" if c.note else c.text) for c in cells]))
    return "\n".join(lines) + "\n"


def technique_values(entry: Entry, task: Task[Any]) -> dict[str, Any]:
    """The same as JSON values; None where nothing was measured."""
    robust = entry.robustness
    unknown = dict.fromkeys(task.comparison_keys)
    return {
        **(entry.compared.to_json() if entry.compared else unknown),
        "calibration_error": entry.calibration,
        "memory_bytes": entry.memory_bytes,
        "shares": None if entry.shares is None else entry.shares.to_json(),
        "load_ms": entry.load_ms,
        "reference_speedup": entry.reference_speedup,
        "float_speedup": entry.float_speedup,
        "robustness": robust.to_json() if robust else None,
        "shape_bias": entry.shape_bias.to_json() if entry.shape_bias else None,
        "failed": entry.failed,
    }


def _speedup(entry: Entry) -> Cell:
    if entry.float_speedup is None:
        return Cell("–")
    ends = entry.float_speedup_range
    return Cell(f"{entry.float_speedup:.2f}×", f"{ends[0]:.2f} – {ends[1]:.2f}" if ends else "")


def _bytes(count: int | None, base: int | None) -> Cell:
    if count is None:
        return Cell("–")
    smaller = f"{base / count:.1f}× smaller" if base and base > count else ""
    return Cell(size_text(count), smaller)


def _accuracy(entry: Entry) -> Cell:
    if entry.accuracy is None:
        return Cell("–")
    low, high = entry.accuracy.interval()
    return Cell(percent(entry.accuracy.rate), f"{100 * low:.1f} – {100 * high:.1f}")


def _drop(entry: Entry) -> Cell:
    if entry.compared is None:
        return Cell("–")
    low, high = drop_interval(entry.compared)
    note = f"{signed(low, 2)} to {signed(high, 2)}, p = {entry.compared.p_value():.2g}"
    return Cell(signed(-100 * entry.compared.difference, 2), note)


def _agreement(entry: Entry) -> Cell:
    if entry.accuracy is None or entry.agreement is None:
        return Cell("–")
    return Cell(percent(entry.agreement / entry.accuracy.n))


def _corrupted(entry: Entry) -> Cell:
    if entry.robustness is None:
        return Cell("–")
    low, high = entry.robustness.interval()
    return Cell(percent(entry.robustness.mean), f"{100 * low:.1f} – {100 * high:.1f}")


def _robustness_drop(entry: Entry, base: Entry) -> Cell:
    if entry is base or entry.robustness is None or base.robustness is None:
        return Cell("–")
    change, (low, high) = entry.robustness.change(base.robustness)
    return Cell(signed(-100 * change, 2), f"{signed(-100 * high, 2)} to {signed(-100 * low, 2)}")


def _shape_bias(entry: Entry) -> Cell:
    if entry.shape_bias is None or entry.shape_bias.bias is None:
        return Cell("–")
    return Cell(percent(entry.shape_bias.bias), f"{percent(entry.shape_bias.accuracy)} by shape")


#: Headings, and what stands below them of an entry beside the baseline.
COLUMNS: dict[str, Callable[[Entry, Entry], Cell]] = {
    "network": lambda entry, base: Cell(entry.name, "failed" if entry.failed else ""),
    "file": lambda entry, base: _bytes(entry.file_bytes, base.file_bytes),
    "weights": lambda entry, base: Cell("–" if entry.shares is None else shares_text(entry.shares.weights)),
    "activations": lambda entry, base: Cell(
        "–" if entry.shares is None else shares_text(entry.shares.activations)
    ),
    "memory": lambda entry, base: _bytes(entry.memory_bytes, base.memory_bytes),
    "latency": lambda entry, base: Cell("–" if entry.latency_ms is None else f"{entry.latency_ms:.2f} ms"),
    "speedup": lambda entry, base: _speedup(entry),
    "top-1": lambda entry, base: _accuracy(entry),
    "accuracy drop": lambda entry, base: _drop(entry),
    "agreement": lambda entry, base: _agreement(entry),
    "calibration error": lambda entry, base: Cell(
        "–" if entry.calibration is None else percent(entry.calibration)
    ),
    "corrupted images": lambda entry, base: _corrupted(entry),
    "robustness drop": _robustness_drop,
    "shape bias": lambda entry, base: _shape_bias(entry),
}
