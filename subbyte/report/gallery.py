"""Sample images of the report, with what every network says about them, and corrupted ones."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from subbyte.data.classes import distinct
from subbyte.data.corruptions import corrupt
from subbyte.data.decode import read_image
from subbyte.data.samples import Sample, fit
from subbyte.report.contents import Report

THUMBNAIL = 320  # pixels, the shorter side of a sample image
MARKED = 160  # the same at least, if places are marked in it
NOWHERE = np.empty((0, 2))
#: Of the dots in images: those of report.css for light pages, by the number of the entry.
COLOURS = ("#5c6874", "#0072b2", "#d55e00", "#00856a", "#b8568f", "#9a6b00", "#6b4fc4", "#1a7f96")


def pick(report: Report, count: int) -> list[int]:
    """Which images to show: half at most where the entries disagree, the rest evenly spread."""
    answers = [entry.predictions for entry in report.entries if entry.predictions is not None]
    if not answers:
        return []
    least = np.min([report.task.alike(other, answers[0]) for other in answers], axis=0)
    chosen = set(_spread(np.flatnonzero(least < 1).tolist(), count // 2))
    rest = [i for i in range(len(report.samples)) if i not in chosen]
    return sorted(chosen | set(_spread(rest, count - len(chosen))))


def _spread(items: Sequence[int], count: int) -> list[int]:
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def card(report: Report, index: int) -> dict[str, Any]:
    """An image, its label and the guesses. InputError if it cannot be read."""
    sample, task = report.samples[index], report.task
    names = None if report.classes is None else distinct(report.classes)
    guesses, marks = [], []
    for number, entry in enumerate(report.entries):
        if entry.predictions is not None:
            colour = COLOURS[number % len(COLOURS)]
            said = task.guess(entry.predictions, index, sample, names)
            guesses.append({"entry": entry.name, "said": said, "colour": colour})
            marks.append((colour, task.marks(entry.predictions, index)))
    return {
        "uri": thumbnail(sample, task.true_marks(sample), marks),
        "file": sample.path.name,
        "truth": task.truth(sample, names),
        "guesses": guesses,
        "marked": any(len(places) for _, places in marks),
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
    names = None if report.classes is None else distinct(report.classes)
    level = len(robust.severities) // 2
    rows = []
    for index in _spread(range(len(report.corrupted)), count):
        sample = report.corrupted[index]
        original = np.asarray(
            fit(read_image(sample.path, report.preprocessing.channels), report.preprocessing)
        )
        cells = [_cell("original", original, [name for name, r in measured if r.clean[index]], len(measured))]
        for f, family in enumerate(robust.families):
            image = corrupt(original, family, robust.severities[level])
            right = [name for name, r in measured if r.right[index, f, level]]
            cells.append(_cell(family.replace("_", " "), image, right, len(measured)))
        rows.append({"file": sample.path.name, "truth": report.task.truth(sample, names), "cells": cells})
    return rows


def _cell(title: str, image: np.ndarray, right: Sequence[str], of: int) -> dict[str, Any]:
    return {"title": title, "uri": _data_uri(Image.fromarray(image), 72), "right": right, "of": of}


def thumbnail(
    sample: Sample, truth: np.ndarray = NOWHERE, marks: Sequence[tuple[str, np.ndarray]] = ()
) -> str:
    """The image as a small JPEG data URI, with rings and coloured dots at places of 0..1 of it."""
    image = read_image(sample.path)
    if len(truth) or any(len(places) for _, places in marks):
        factor = max(1.0, MARKED / min(image.size))  # so that marks do not hide a small image
        image = image.resize((round(image.width * factor), round(image.height * factor)))
    image.thumbnail((4 * THUMBNAIL, THUMBNAIL))
    draw = ImageDraw.Draw(image)
    for x, y in truth * image.size:
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), outline="black", width=3)
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), outline="white")
    for colour, places in marks:
        for x, y in places * image.size:
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour, outline="black")
    return _data_uri(image, 80)


def _data_uri(image: Image.Image, quality: int) -> str:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
