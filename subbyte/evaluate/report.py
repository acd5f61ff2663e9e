"""The report: one HTML page with everything inside it, that needs no network.

`render` turns entries into the page; `table_rows` and `markdown` give the same comparison as JSON values and
as Markdown. The template is report.html beside this file; plotly's script is inlined once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs

from subbyte.artifact.whole_file import write_whole
from subbyte.evaluate.data import Sample
from subbyte.evaluate.entry import Entry
from subbyte.evaluate.figures import figures_of
from subbyte.evaluate.gallery import card, pick
from subbyte.evaluate.heatmaps import corruption_heatmap, sensitivity_heatmaps
from subbyte.evaluate.techniques import markdown_table, technique_table, technique_values

WORST_LAYERS = 5
IN_FIRST_TABLE = ("latency", "top-1", "same best class")  # of the page


@dataclass(frozen=True, eq=False)
class Report:
    """All of a page. `reference` is the name of the entry that agreement is counted against.

    facts: what was measured on what (host, versions, threads, pictures), shown as it is.
    fastest_peer: what `speedup` is relative to. warning: a sentence below the table.
    sensitivity: rows with kind ("weights" or "activations"), layer, bits, kl (added to the class scores
    by that change alone), sqnr (dB, of the block's output).
    """

    title: str
    entries: Sequence[Entry]
    samples: Sequence[Sample]
    classes: Sequence[str] | None
    reference: str
    facts: Mapping[str, Any]
    fastest_peer: str | None = None
    warning: str | None = None
    sensitivity: Sequence[Mapping[str, Any]] = ()


def render(report: Report, shown: int = 12) -> str:
    """The page as text; `shown` pictures are embedded. Raises InputError if one cannot be read."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("subbyte.evaluate", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"megabytes": _megabytes, "percent": _percent, "kilobytes": _kilobytes}
    heatmap = corruption_heatmap(report.entries)
    return environment.get_template("report.html").render(
        report=report,
        own=[entry for entry in report.entries if not entry.peer],
        timed=any(entry.latency_ms is not None for entry in report.entries),
        biased=any(entry.shape_bias is not None for entry in report.entries),
        techniques=technique_table(report.entries, report.reference, IN_FIRST_TABLE),
        failures=[failure(report, entry) for entry in report.entries if entry.failed],
        gallery=[card(report, i) for i in pick(report, shown)],
        figures=figures_of(report.entries),
        robustness=heatmap,
        robust=next((entry.robustness for entry in report.entries if entry.robustness), None),
        sensitivity=sensitivity_heatmaps(report.sensitivity),
        plotly=get_plotlyjs(),
    )


def failure(report: Report, entry: Entry) -> dict[str, Any]:
    """Why an entry counts as failed, and the layers that suffered most at its widths, if that is known."""
    assert entry.accuracy is not None
    asked = {row["name"]: str(row["requested"]) for row in entry.plan}
    rows = [
        row
        for row in report.sensitivity
        if row["kind"] == "weights" and asked.get(row["layer"], "").startswith(f"w{row['bits']}a")
    ]
    return {
        "entry": entry,
        "layers": sorted(rows, key=lambda row: float(row["sqnr"]))[:WORST_LAYERS],
    }


def table_rows(report: Report) -> list[dict[str, Any]]:
    """The comparison as JSON values, one row per entry; None where nothing was measured."""
    return [
        {
            "name": entry.name,
            "precision": entry.precision,
            "peer": entry.peer,
            "pictures": entry.accuracy.n if entry.accuracy else None,
            "top1": entry.accuracy.top1 if entry.accuracy else None,
            "top5": entry.accuracy.top5 if entry.accuracy else None,
            "agreement": entry.agreement,
            "file_bytes": entry.file_bytes,
            "latency_ms": entry.latency_ms,
            "speedup": entry.speedup,
            **technique_values(entry),
        }
        for entry in report.entries
    ]


def markdown(report: Report) -> str:
    """Title, the table of techniques, and what was measured on what."""
    facts = "\n".join(f"- {key}: {_plain(value)}" for key, value in report.facts.items())
    table = markdown_table(report.entries, report.reference)
    note = f"Impacts are percentage points beside {report.reference}; intervals are of 95 %.\n"
    return f"# {report.title}\n\n{table}\n{note}\n{facts}\n"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def write_text(path: Path, text: str) -> None:
    """Writes the file as a whole or, if interrupted, not at all. InputError if it cannot be written."""
    write_whole(path, [text.encode()])


def _megabytes(count: float) -> str:
    return f"{count / 1e6:.2f} MB"


def _kilobytes(count: float) -> str:
    return f"{count / 1e3:,.1f}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
