"""The report: one HTML page with everything inside it, that needs no network.

`Entry` is one row of the comparison (an artifact of this package, or a peer); `render` turns entries
into the page. The template is report.html beside this file; plotly's script is inlined once.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs

from subbyte.evaluate.accuracy import Accuracy, Predictions
from subbyte.evaluate.data import Sample, read_picture
from subbyte.evaluate.figures import accuracy_over_size, latency_bars

THUMBNAIL = 250  # pixels, the shorter side of a sample picture


@dataclass(frozen=True, eq=False)
class Entry:
    """One row of the comparison. What was not measured is None and shows as a dash.

    file_bytes: size of the file. latency_ms: median milliseconds for one picture; latency_range_ms: its
    10th and 90th percentile. speedup: times as fast as the fastest peer. agreement: on how many pictures
    the best class is the reference's.
    """

    name: str
    precision: str
    peer: bool = False
    accuracy: Accuracy | None = None
    agreement: int | None = None
    file_bytes: int | None = None
    latency_ms: float | None = None
    latency_range_ms: tuple[float, float] | None = None
    speedup: float | None = None
    predictions: Predictions | None = None
    plan: Sequence[Mapping[str, Any]] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Report:
    """All of a page. `reference` is the name of the entry that agreement is counted against.

    facts: what was measured on what (host, versions, threads, pictures), shown as it is.
    fastest_peer: what `speedup` is relative to. warning: a sentence below the table.
    """

    title: str
    entries: Sequence[Entry]
    samples: Sequence[Sample]
    classes: Sequence[str] | None
    reference: str
    facts: Mapping[str, Any]
    fastest_peer: str | None = None
    warning: str | None = None


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
    return environment.get_template("report.html").render(
        report=report,
        own=[entry for entry in report.entries if not entry.peer],
        measured=[entry for entry in report.entries if entry.accuracy is not None],
        gallery=[_card(report, i) for i in pick(report, shown)],
        figures=[
            figure for figure in (accuracy_over_size(report.entries), latency_bars(report.entries)) if figure
        ],
        plotly=get_plotlyjs(),
    )


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
        }
        for entry in report.entries
    ]


def write_text(path: Path, text: str) -> None:
    """Writes the file as a whole or, if interrupted, not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, "utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def pick(report: Report, count: int) -> list[int]:
    """Which pictures to show: half at most where the entries disagree, the rest evenly spread."""
    answers = [entry.predictions.top[:, 0] for entry in report.entries if entry.predictions is not None]
    if not answers:
        return []
    total = len(report.samples)
    disagree = [i for i in range(total) if len({int(answer[i]) for answer in answers}) > 1]
    chosen = set(_spread(disagree, count // 2))
    rest = [i for i in range(total) if i not in chosen]
    return sorted(chosen | set(_spread(rest, count - len(chosen))))


def _spread(items: Sequence[int], count: int) -> list[int]:
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def _card(report: Report, index: int) -> dict[str, Any]:
    sample = report.samples[index]
    guesses = []
    for entry in report.entries:
        if entry.predictions is None:
            continue
        label, probability = int(entry.predictions.top[index, 0]), entry.predictions.probability[index, 0]
        guesses.append(
            {
                "entry": entry.name,
                "class": _class_name(report, label),
                "percent": 100 * float(probability),
                "right": label == sample.label,
            }
        )
    truth = None if sample.label is None else _class_name(report, sample.label)
    return {"uri": thumbnail(sample), "file": sample.path.name, "truth": truth, "guesses": guesses}


def _class_name(report: Report, label: int) -> str:
    return f"class {label}" if report.classes is None else report.classes[label]


def thumbnail(sample: Sample) -> str:
    """The picture as a small JPEG data URI."""
    picture = read_picture(sample.path)
    picture.thumbnail((4 * THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _megabytes(count: float) -> str:
    return f"{count / 1e6:.2f} MB"


def _kilobytes(count: float) -> str:
    return f"{count / 1e3:,.1f}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
