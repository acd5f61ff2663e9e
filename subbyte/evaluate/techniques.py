"""What each technique gains and costs beside the reference: one table, for the page, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from subbyte.evaluate.entry import Entry
from subbyte.evaluate.units import size_text

HEADINGS = (
    "technique",
    "file",
    "memory",
    "latency",
    "speed-up",
    "top-1",
    "accuracy impact",
    "same best class",
    "calibration error",
    "corrupted pictures",
    "robustness impact",
    "shape bias",
)


class Cell(NamedTuple):
    """What stands in large and in small letters."""

    text: str
    note: str = ""


def technique_table(
    entries: Sequence[Entry], reference: str, without: Collection[str] = ()
) -> tuple[list[str], list[list[Cell]]]:
    """Headings and rows, without some columns and those in which nothing was measured. reference: the
    name of the entry that sizes, times and answers are compared with."""
    base = next(entry for entry in entries if entry.name == reference)
    rows = [_row(entry, base) for entry in entries]
    measured = [i for i in range(len(HEADINGS)) if any(row[i].text != "–" for row in rows)]
    shown = [i for i in measured if HEADINGS[i] not in without]
    return [HEADINGS[i] for i in shown], [[row[i] for i in shown] for row in rows]


def markdown_table(entries: Sequence[Entry], reference: str) -> str:
    """The same as a Markdown table."""
    headings, rows = technique_table(entries, reference)
    lines = [_line(headings), _line(["---"] * len(headings))]
    lines += [_line([f"{c.text} ({c.note})" if c.note else c.text for c in row]) for row in rows]
    return "\n".join(lines) + "\n"


def technique_values(entry: Entry) -> dict[str, Any]:
    """The same as JSON values; None where nothing was measured."""
    compared, robust = entry.compared, entry.robustness
    return {
        "lost": compared.lost if compared else None,
        "gained": compared.gained if compared else None,
        "difference": compared.difference if compared else None,
        "difference_interval_95": list(compared.interval()) if compared else None,
        "mcnemar_p": compared.p_value() if compared else None,
        "calibration_error": entry.calibration,
        "memory_bytes": entry.memory_bytes,
        "load_ms": entry.load_ms,
        "reference_speedup": entry.reference_speedup,
        "robustness": robust.to_json() if robust else None,
        "shape_bias": entry.shape_bias.to_json() if entry.shape_bias else None,
        "failed": entry.failed,
    }


def points(share: float) -> str:
    """A difference of shares in percentage points."""
    return f"{100 * share:+.2f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _row(entry: Entry, base: Entry) -> list[Cell]:
    return [
        Cell(entry.name, "failed" if entry.failed else ""),
        _bytes(entry.file_bytes, base.file_bytes),
        _bytes(entry.memory_bytes, base.memory_bytes),
        _number(entry.latency_ms, "{:.2f} ms"),
        _number(entry.reference_speedup, "{:.2f} ×"),
        _accuracy(entry),
        _impact(entry),
        _agreement(entry),
        Cell("–" if entry.calibration is None else _percent(entry.calibration)),
        _corrupted(entry),
        _robustness_impact(entry, base),
        _shape_bias(entry),
    ]


def _number(value: float | None, form: str) -> Cell:
    return Cell("–" if value is None else form.format(value))


def _bytes(count: int | None, base: int | None) -> Cell:
    if count is None:
        return Cell("–")
    smaller = f"{base / count:.1f} × smaller" if base and base > count else ""
    return Cell(size_text(count), smaller)


def _accuracy(entry: Entry) -> Cell:
    if entry.accuracy is None:
        return Cell("–")
    low, high = entry.accuracy.interval()
    return Cell(_percent(entry.accuracy.top1_rate), f"{100 * low:.1f} – {100 * high:.1f}")


def _impact(entry: Entry) -> Cell:
    if entry.compared is None:
        return Cell("–")
    low, high = entry.compared.interval()
    note = f"{points(low)} to {points(high)}, p = {entry.compared.p_value():.2g}"
    return Cell(points(entry.compared.difference), note)


def _agreement(entry: Entry) -> Cell:
    if entry.accuracy is None or entry.agreement is None:
        return Cell("–")
    return Cell(_percent(entry.agreement / entry.accuracy.n))


def _corrupted(entry: Entry) -> Cell:
    if entry.robustness is None:
        return Cell("–")
    low, high = entry.robustness.interval()
    return Cell(_percent(entry.robustness.mean), f"{100 * low:.1f} – {100 * high:.1f}")


def _robustness_impact(entry: Entry, base: Entry) -> Cell:
    if entry is base or entry.robustness is None or base.robustness is None:
        return Cell("–")
    change, (low, high) = entry.robustness.change(base.robustness)
    return Cell(points(change), f"{points(low)} to {points(high)}")


def _shape_bias(entry: Entry) -> Cell:
    if entry.shape_bias is None or entry.shape_bias.bias is None:
        return Cell("–")
    return Cell(_percent(entry.shape_bias.bias), f"{_percent(entry.shape_bias.accuracy)} by shape")


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
