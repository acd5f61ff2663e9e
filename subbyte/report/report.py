"""The report: one HTML page with everything inside it, that needs no network and may not use any.

`render` turns entries into the page; `table_rows` and `markdown` give the same comparison as JSON values and
as Markdown. The template is report.html beside this file, with report.css and report.js; without scripts
the page shows the same, unsorted. Its Content-Security-Policy lets that one script run and nothing load.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from subbyte.report import network_graph
from subbyte.report.contents import Report
from subbyte.report.entry import Entry
from subbyte.report.figures import accuracy_by_severity, figures_of
from subbyte.report.gallery import card, corrupted_rows, pick
from subbyte.report.headline import drop_interval, headline, signed
from subbyte.report.heatmaps import corruption_table, sensitivity_heatmaps
from subbyte.report.layer_table import layer_rows
from subbyte.report.markdown_text import plain
from subbyte.report.page import page_environment
from subbyte.report.techniques import markdown_table, technique_table, technique_values

WORST_LAYERS = 5
CORRUPTED_SHOWN = 2  # images
#: Columns that the page shows in its first table, together with their counts.
IN_FIRST_TABLE = ("file", "latency", "speedup", "top-1", "accuracy drop", "agreement")


def render(report: Report, shown: int = 12) -> str:
    """The page as text; `shown` images are embedded. Raises InputError if one cannot be read."""
    environment = page_environment()
    robust = next((entry.robustness for entry in report.entries if entry.robustness), None)
    page: str = environment.get_template("report.html").render(
        report=report,
        drop_interval=drop_interval,
        signed=signed,
        headline=headline(report.entries, report.reference, report.fastest_float),
        baseline=next(entry for entry in report.entries if entry.name == report.reference),
        fastest=next((entry for entry in report.entries if entry.name == report.fastest_float), None),
        own=[entry for entry in report.entries if not entry.peer],
        timed=any(entry.latency_ms is not None for entry in report.entries),
        biased=any(entry.shape_bias is not None for entry in report.entries),
        techniques=technique_table(
            report.entries, report.reference, report.fastest_float, without=IN_FIRST_TABLE
        ),
        failures=[failure(report, entry) for entry in report.entries if entry.failed],
        gallery=[card(report, i) for i in pick(report, shown)],
        corrupted=corrupted_rows(report, CORRUPTED_SHOWN),
        figures=figures_of(report.entries),
        corruptions=corruption_table(report.entries),
        severity=accuracy_by_severity(report.entries),
        robust=robust,
        sensitivity=sensitivity_heatmaps(report.sensitivity),
        planned=[_layers(report, entry) for entry in report.entries if entry.plan],
    )
    return page


def _layers(report: Report, entry: Entry) -> dict[str, Any]:
    """What the page's section about an entry's layers shows."""
    rows = layer_rows(entry, report.sensitivity)
    title = f"Network of {entry.name}"
    return {
        "entry": entry,
        "rows": rows,
        "wide": network_graph.network_drawing(entry.layers, rows, network_graph.WIDE, title),
        "narrow": network_graph.network_drawing(entry.layers, rows, network_graph.NARROW, title),
        "widths": sorted({row.bits for row in rows if row.bits}),
        "most": max((row.plan["share"] or 0.0 for row in rows), default=0.0),
    }


def failure(report: Report, entry: Entry) -> dict[str, Any]:
    """Why an entry counts as failed, and the layers that suffered most at its widths, if that is known."""
    assert entry.accuracy is not None
    asked = {row["name"]: str(row["requested"]) for row in entry.plan}
    rows = [
        row
        for row in report.sensitivity
        if row["kind"] == "weights"
        and asked.get(row["layer"], "").startswith((f"int{row['bits']} ", f"int{row['bits']}+"))
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
            "images": entry.accuracy.n if entry.accuracy else None,
            **(entry.accuracy.to_json() if entry.accuracy else dict.fromkeys(report.task.score_keys)),
            "agreement": entry.agreement,
            "file_bytes": entry.file_bytes,
            "latency_ms": entry.latency_ms,
            "speedup": entry.speedup,
            "fastest_float": report.fastest_float,
            **technique_values(entry, report.task),
        }
        for entry in report.entries
    ]


def markdown(report: Report) -> str:
    """Title, the sentence on top, the table, and what was measured on what. Names are escaped."""
    facts = "\n".join(f"- {plain(key)}: {plain(_plain(value))}" for key, value in report.facts.items())
    table = markdown_table(report.entries, report.reference, report.fastest_float, report.task.title)
    top = headline(report.entries, report.reference, report.fastest_float)
    words = "".join(f"**{plain(text)}**" if strong else _spaced(text) for text, strong in top.words)
    more = "".join(f" {plain(sentence)}" for sentence in top.more)
    note = f"Drops are percentage points beside {plain(report.reference)}; intervals are of 95 %."
    if report.fastest_float is not None:
        note += (
            f" Speedups are over {plain(report.fastest_float)}, the fastest float32 runtime timed, with the"
            " 10th and 90th percentile of the rounds."
        )
    return f"# {plain(report.title)}\n\n{words}{more}\n\n{table}\n{note}\n\n{facts}\n"


def _spaced(text: str) -> str:
    """Escaped, with the spaces at its ends."""
    left, right = " " * text.startswith(" "), " " * text.endswith(" ")
    return f"{left}{plain(text)}{right}"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
