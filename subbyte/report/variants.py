"""Variants of one recipe beside it, each made with several seeds: means, spreads, and paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from subbyte.data.samples import Sample
from subbyte.metrics.statistics import Comparison, paired_means
from subbyte.report.entry import Entry
from subbyte.report.markdown_text import plain, row
from subbyte.system.units import percent, points
from subbyte.tasks import Task

#: Of each variant the entries of its seeds, by the variant's name.
Variants = Mapping[str, Sequence[Entry]]


def variant_rows(
    variants: Variants, whole: str, reference: Entry, samples: Sequence[Sample], task: Task[Any]
) -> list[dict[str, Any]]:
    """A row of JSON values for each variant that was made with all seeds.

    "score" and "agreement" (with `reference`) are shares: their mean over the seeds, and "spread", the
    standard deviation between them (of n - 1; None of one seed). "score_gain" and "agreement_gain" compare
    with the variant called `whole`, image by image: with one seed by the task's own test for scores, else
    each image counts by its mean over the seeds. None for that variant itself.
    """
    found: list[dict[str, Any]] = []
    base = _Seen(variants[whole], reference, samples, task) if whole in variants else None
    for name, entries in variants.items():
        one = _Seen(entries, reference, samples, task)
        gains: tuple[Comparison | None, Comparison | None] = (None, None)
        if base is not None and name != whole:
            gains = one.beside(base)
        found.append(
            {
                "name": name,
                "seeds": len(entries),
                "images": len(samples),
                "score": _spread(one.credit),
                "agreement": _spread(one.alike),
                "score_gain": _gain(gains[0]),
                "agreement_gain": _gain(gains[1]),
            }
        )
    return found


class _Seen:
    """credit, alike: float64 [seeds, images], what each answer counts, and how like the reference's it is."""

    def __init__(
        self, entries: Sequence[Entry], reference: Entry, samples: Sequence[Sample], task: Task[Any]
    ) -> None:
        self.task, self.samples = task, samples
        self.answers = [entry.predictions for entry in entries]
        self.credit = np.stack([task.credit(answers, samples) for answers in self.answers])
        self.alike = np.stack([task.alike(answers, reference.predictions) for answers in self.answers])

    def beside(self, other: _Seen) -> tuple[Comparison, Comparison]:
        """What scores and agreement gain over another variant's."""
        alike = paired_means(self.alike.mean(0) - other.alike.mean(0))
        if len(self.answers) == len(other.answers) == 1:
            return self.task.compared(self.answers[0], other.answers[0], self.samples), alike
        return paired_means(self.credit.mean(0) - other.credit.mean(0)), alike


def _spread(values: np.ndarray) -> dict[str, float | None]:
    means = values.mean(1)
    return {"mean": float(means.mean()), "spread": float(means.std(ddof=1)) if len(means) > 1 else None}


def _gain(gain: Comparison | None) -> dict[str, Any] | None:
    if gain is None:
        return None
    return {
        "difference": gain.difference,
        "difference_interval_95": list(gain.interval()),
        "p": gain.p_value(),
    }


def variant_markdown(rows: Sequence[Mapping[str, Any]], whole: str, task: Task[Any]) -> str:
    """The same as a section of Markdown, in which no name is markup."""
    headings = ["", task.title, f"{task.title} gained", task.alike_title, "agreement gained"]
    lines = [row([plain(heading) for heading in headings]), row(["---", *["---:"] * 4])]
    for one in rows:
        cells = [_shown(one["score"]), _won(one["score_gain"])]
        cells += [_shown(one["agreement"]), _won(one["agreement_gain"])]
        lines.append(row([plain(cell) for cell in (one["name"], *cells)]))
    seeds = max((one["seeds"] for one in rows), default=1)
    said = f"Means of {seeds} seeds ± the standard deviation between them. " if seeds > 1 else ""
    note = f"{said}Gained are points beside {plain(whole)} on the same images, with 95 % intervals."
    return f"## Beside {plain(whole)}\n\n" + "\n".join(lines) + f"\n\n{note}\n"


def _shown(value: Mapping[str, float | None]) -> str:
    mean, spread = value["mean"], value["spread"]
    assert mean is not None
    return percent(mean) if spread is None else f"{percent(mean)} ± {100 * spread:.2f}"


def _won(gain: Mapping[str, Any] | None) -> str:
    if gain is None:
        return "–"
    low, high = gain["difference_interval_95"]
    return f"{points(gain['difference'])} ({100 * low:+.2f} to {100 * high:+.2f}, p = {gain['p']:.2g})"
