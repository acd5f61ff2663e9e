"""Sample images of the report, with what every network says about them, and corrupted ones."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from subbyte.data.classes import distinct
from subbyte.data.corruptions import corrupt
from subbyte.data.decode import read_image
from subbyte.data.samples import Sample, fit
from subbyte.report.contents import Report

THUMBNAIL = 320  # pixels, the shorter side of a sample image


def pick(report: Report, count: int) -> list[int]:
    """Which images to show: half at most where the entries disagree, the rest evenly spread."""
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
    """An image, its label and the guesses. InputError if it cannot be read."""
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
    return {
        "uri": thumbnail(sample),
        "file": sample.path.name,
        "truth": _truth(report, sample),
        "guesses": guesses,
    }


def corrupted_rows(report: Report, count: int) -> list[dict[str, Any]]:
    """`count` of the images that were corrupted: the original as the network gets it, then every family at
    the middle one of the severities, each with the names of the entries that are right.

    Empty unless images were corrupted. InputError if one cannot be read.
    """
    measured = [(entry.name, entry.robustness) for entry in report.entries if entry.robustness is not None]
    if not measured or report.preprocessing is None or not report.corrupted:
        return []
    robust = measured[0][1]
    level = len(robust.severities) // 2
    rows = []
    for index in _spread(range(len(report.corrupted)), count):
        sample = report.corrupted[index]
        original = np.asarray(fit(read_image(sample.path), report.preprocessing))
        cells = [_cell("original", original, [name for name, r in measured if r.clean[index]], len(measured))]
        for f, family in enumerate(robust.families):
            image = corrupt(original, family, robust.severities[level])
            right = [name for name, r in measured if r.right[index, f, level]]
            cells.append(_cell(family.replace("_", " "), image, right, len(measured)))
        rows.append({"file": sample.path.name, "truth": _truth(report, sample), "cells": cells})
    return rows


def _cell(title: str, image: np.ndarray, right: Sequence[str], of: int) -> dict[str, Any]:
    return {"title": title, "uri": _data_uri(Image.fromarray(image), 72), "right": right, "of": of}


def _truth(report: Report, sample: Sample) -> str | None:
    return None if sample.label is None else _class_name(report, sample.label)


def _class_name(report: Report, label: int) -> str:
    return f"class {label}" if report.classes is None else distinct(report.classes)[label]


def thumbnail(sample: Sample) -> str:
    """The image as a small JPEG data URI."""
    image = read_image(sample.path)
    image.thumbnail((4 * THUMBNAIL, THUMBNAIL))
    return _data_uri(image, 80)


def _data_uri(image: Image.Image, quality: int) -> str:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
