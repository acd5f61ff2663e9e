"""Sample pictures of the report, with what every network says about them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from subbyte.evaluate.classes import distinct
from subbyte.evaluate.data import Sample
from subbyte.evaluate.decode import read_picture

if TYPE_CHECKING:
    from subbyte.evaluate.report import Report

THUMBNAIL = 250  # pixels, the shorter side of a sample picture


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


def card(report: Report, index: int) -> dict[str, Any]:
    """A picture, its label and the guesses. InputError if it cannot be read."""
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
    return f"class {label}" if report.classes is None else distinct(report.classes)[label]


def thumbnail(sample: Sample) -> str:
    """The picture as a small JPEG data URI."""
    picture = read_picture(sample.path)
    picture.thumbnail((4 * THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
