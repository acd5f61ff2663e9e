"""Detection: boxes with scores, of one class or several.

The network has two outputs: boxes, then scores, both for the same K places.

- `detection`: boxes are 4 numbers for each place, left, top, right and bottom in 0..1 of the input; scores
  are probabilities, K for each class. So does a network that ends with its decoding, whether its boxes are
  suppressed already or not.
- `detection:192x192:8x2,16x6` (width and height of the input, then stride and boxes per cell of each grid):
  the raw head of a single-shot detector with anchors of one size. Grids follow one another, cells row by
  row. The first 4 of a place's numbers are the offset of the box's centre from the cell's, x and y, and its
  width and height, in pixels of the input; further ones (key points) are not read. Scores are logits.
  MediaPipe's detectors of palms, faces and people are such heads.

Boxes that overlap a surer one of their class by more than 0.5 are suppressed, and the 100 surest kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from subbyte.data.boxes import NUMBERS, boxes_folder
from subbyte.data.samples import Sample
from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.metrics.boxes import MOST, Matched, Precision, match, overlap, suppressed
from subbyte.metrics.jackknife import pseudo_values
from subbyte.metrics.statistics import mean_interval
from subbyte.system.units import percent
from subbyte.tasks.task import Guess, Outputs, Task, shapes

if TYPE_CHECKING:
    from torch import Tensor

OVERLAP = 0.5  # above which a box is suppressed, and from which two networks' boxes are the same
SURE = 0.5  # the score from which a box is shown, and counts beside another network's
CANDIDATES = 400  # boxes of an image that suppression looks at, the surest
WHOLE = (0.0, 0.0, 1.0, 1.0, 1.0, 1.0)
_GRID = re.compile(r"([1-9]\d{0,3})x([1-9]\d{0,3})")


@dataclass(frozen=True, eq=False)
class Boxes:
    """rows: of each image float64 [m, 6]: left, top, right, bottom in 0..1 of it, score, class; the surest
    first. classes: of the network."""

    rows: tuple[np.ndarray, ...]
    classes: int


class Detection(Task[Boxes]):
    """Boxes with scores; scored by COCO's mean average precision, at overlaps 0.5 to 0.95."""

    name = "detection"
    title = "mAP"
    key = "map"
    errors: ClassVar[Mapping[str, Any]] = {"map50": ("mAP at overlap 0.5", percent)}
    score_keys = ("map", "map50")
    alike_title = "boxes matched"
    methods = ("95 % interval of the jackknife", "p of a normal test")
    gallery: ClassVar[str] = (
        "White rings: centres of the boxes to be found. Dots: those of each network's boxes with a score of "
        "at least 0.5."
    )
    places = True

    def __init__(self, form: str = "") -> None:
        self.anchors: np.ndarray | None = None
        self.size = (1, 1)
        if form:
            self.name = f"{type(self).name}:{form}"
            self.size, self.anchors = _cells(form)

    def of(self, form: str) -> Detection:
        """InputError for a form that cannot be read."""
        return Detection(form)

    def check(self, graph: Graph) -> None:
        found = [prod(shape) for shape in shapes(graph)]
        if len(found) != 2:
            raise InputError(
                f"the network's outputs have the shapes {shapes(graph)}: detection has two, boxes and scores"
            )
        if self.anchors is not None and graph.value(graph.input).shape[:2] != self.size[::-1]:
            raise InputError(f"{self.name} is not of the network's input, {graph.value(graph.input).shape}")
        places = found[0] // 4 if self.anchors is None else len(self.anchors)
        whole = found[0] % places == 0 and found[1] % places == 0
        if not whole or found[0] // places < 4 or (self.anchors is None and found[0] % 4):
            raise InputError(f"outputs of {found[0]} and {found[1]} numbers are no boxes of {self.name}")

    def label_loss(self, made: Sequence[Tensor], labels: Tensor) -> Tensor:
        """There is none: raises InputError."""
        raise InputError("boxes are no labels to train with; learn from the float network's outputs")

    def answers(self, outputs: Outputs, frames: np.ndarray | None = None) -> Boxes:
        n = len(outputs[0])
        places = outputs[0].size // n // 4 if self.anchors is None else len(self.anchors)
        boxes = outputs[0].reshape(n, places, -1)[..., :4].astype(np.float64)
        scores = outputs[1].reshape(n, places, -1).astype(np.float64)
        if self.anchors is not None:
            scores = 1 / (1 + np.exp(-np.clip(scores, -100, 100)))
            middle = self.anchors + boxes[..., :2] / self.size
            half = np.maximum(boxes[..., 2:], 0.0) / self.size / 2
            boxes = np.concatenate([middle - half, middle + half], axis=2)
        frames = np.tile(WHOLE, (n, 1)) if frames is None else frames
        start, extent = (np.tile(frames[:, None, part], 2) for part in (slice(0, 2), slice(2, 4)))
        boxes = np.clip(start + boxes * extent, 0.0, 1.0)
        return Boxes(tuple(_kept(*one) for one in zip(boxes, scores, strict=True)), scores.shape[2])

    def joined(self, parts: Sequence[Boxes]) -> Boxes:
        return Boxes(tuple(rows for part in parts for rows in part.rows), parts[0].classes)

    def alike(self, answers: Boxes, other: Boxes) -> np.ndarray:
        """The share of both networks' boxes (score from 0.5 on) that the other has, too: of the same class,
        with an overlap of at least 0.5, paired one to one (F1)."""
        pairs = zip(answers.rows, other.rows, strict=True)
        return np.array([_same(*(rows[rows[:, 4] >= SURE] for rows in pair)) for pair in pairs])

    def agreement_json(self, answers: Boxes, other: Boxes) -> dict[str, Any]:
        """With it mAP with the other's boxes (score from 0.5 on) in the place of labels, if it has any."""
        there = [_as_labels(rows[rows[:, 4] >= SURE]) for rows in other.rows]
        found = super().agreement_json(answers, other)
        return found if not any(map(len, there)) else found | {"agreement_map": _Scored(answers, there).map()}

    def agreement_lines(self, row: Mapping[str, Any], reference: str) -> list[tuple[str, str]]:
        lines = super().agreement_lines(row, reference)
        if "agreement_map" in row:
            lines.insert(2, ("mAP against its boxes", percent(row["agreement_map"])))
        return lines

    def read(self, folder: Path, graph: Graph, classes: Sequence[str] | None) -> list[Sample]:
        boxes, scores = (prod(shape) for shape in shapes(graph))
        return boxes_folder(folder, scores // (boxes // 4 if self.anchors is None else len(self.anchors)))

    def credit(self, answers: Boxes, samples: Sequence[Sample]) -> np.ndarray:
        """Each image's part of mAP. InputError if the labels have no box."""
        scored = _Scored(answers, _labels(answers, samples))
        return pseudo_values(scored.map, len(samples))

    def measured(self, answers: Boxes, samples: Sequence[Sample]) -> Mapping[str, float]:
        return {"map50": _Scored(answers, _labels(answers, samples)).map(overlaps=slice(0, 1))}

    def interval(self, credit: np.ndarray) -> tuple[float, float]:
        return mean_interval(credit, 0.0, 1.0)

    def described(self, answers: Boxes, index: int, names: Sequence[str] | None) -> dict[str, Any]:
        rows = answers.rows[index]
        return {
            "boxes": [
                {"box": row[:4].tolist(), "score": float(row[4]), "class": int(row[5])}
                | ({"name": names[int(row[5])]} if names else {})
                for row in rows[rows[:, 4] >= SURE]
            ]
        }

    def lines(self, described: Mapping[str, Any]) -> list[tuple[str, ...]]:
        return [
            (
                f"{100 * row['score']:6.2f} %",
                row.get("name", f"class {row['class']}"),
                " ".join(f"{x:.3f}" for x in row["box"]),
            )
            for row in described["boxes"]
        ] or [("no box",)]

    def guess(self, answers: Boxes, index: int, sample: Sample, names: Sequence[str] | None) -> Guess:
        rows = answers.rows[index]
        sure, there = rows[rows[:, 4] >= SURE], _label(sample)
        there = there[there[:, 5] == 0]
        same = _same(sure, np.insert(there[:, :5], 4, 1.0, axis=1))
        return Guess(f"{len(sure)} boxes of {len(there)}", f"{100 * same:.0f} % matched", same == 1.0)

    def marks(self, answers: Boxes, index: int) -> np.ndarray:
        rows = answers.rows[index]
        sure = rows[rows[:, 4] >= SURE]
        return np.asarray((sure[:, :2] + sure[:, 2:4]) / 2)

    def true_marks(self, sample: Sample) -> np.ndarray:
        rows = _label(sample)
        return np.asarray((rows[:, :2] + rows[:, 2:4]) / 2)


def _cells(form: str) -> tuple[tuple[int, int], np.ndarray]:
    """(width, height) of the input, and the centre of each place's cell, float64 [K, 2] in 0..1 of it."""
    size, _, listed = form.partition(":")
    grids = [_GRID.fullmatch(text) for text in (size, *listed.split(","))]
    if None in grids:
        raise InputError(
            f"detection:{form:.80} must be written like detection:192x192:8x2,16x6, which is width and "
            "height of the input and stride and boxes per cell of each grid"
        )
    (width, height), *cells = ((int(grid[1]), int(grid[2])) for grid in grids if grid)
    centres = []
    for stride, count in cells:
        across, down = -(-width // stride), -(-height // stride)
        if across * down * count > 1 << 20:
            raise InputError(f"detection:{form:.80} has more than {1 << 20} boxes")
        x, y = np.meshgrid((np.arange(across) + 0.5) / across, (np.arange(down) + 0.5) / down)
        centres.append(np.repeat(np.stack([x.ravel(), y.ravel()], 1), count, axis=0))
    return (width, height), np.concatenate(centres)


def _kept(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """[K, 4] and [K, classes] to rows, at most MOST of those with an area, after suppression by class."""
    order = np.argsort(-scores, axis=None, kind="stable")[:CANDIDATES]
    place, kind = np.unravel_index(order, scores.shape)
    rows = np.column_stack([boxes[place], scores[place, kind], kind])
    rows = rows[(rows[:, 2:4] > rows[:, :2]).all(axis=1)]
    apart = rows[:, :4] + 2.0 * rows[:, 5:]  # boxes of two classes do not overlap
    return rows[suppressed(apart, rows[:, 4], OVERLAP)[:MOST]]


def _same(rows: np.ndarray, others: np.ndarray) -> float:
    """F1 of rows paired with others of their class, the surest first; 1 where both are none."""
    if not len(rows) and not len(others):
        return 1.0
    shared = np.where(rows[:, None, 5] == others[None, :, 5], overlap(rows[:, :4], others[:, :4]), 0.0)
    pairs = 0
    for row in shared if len(others) else ():
        best = int(row.argmax())
        if row[best] >= OVERLAP:
            pairs += 1
            shared[:, best] = 0.0
    return 2 * pairs / (len(rows) + len(others))


def _label(sample: Sample) -> np.ndarray:
    """[k, 6]. InputError if the sample has no boxes as label."""
    if not isinstance(sample.label, tuple):
        raise InputError("a score needs one labelled image per answer")
    return np.array(sample.label, np.float64).reshape(-1, NUMBERS)


def _as_labels(rows: np.ndarray) -> np.ndarray:
    return np.column_stack([rows[:, :4], rows[:, 5], np.zeros(len(rows))])


def _labels(answers: Boxes, samples: Sequence[Sample]) -> list[np.ndarray]:
    if len(samples) != len(answers.rows):
        raise InputError("a score needs one labelled image per answer")
    labels = [_label(sample) for sample in samples]
    if not any((rows[:, 5] == 0).any() for rows in labels):
        raise InputError("mAP needs a box that is to be found")
    return labels


class _Scored:
    """Answers beside labels, class by class. labels: of each image [k, NUMBERS]."""

    def __init__(self, answers: Boxes, labels: Sequence[np.ndarray]) -> None:
        self.images = len(labels)
        self.classes = [
            Precision([_matched(*one, kind) for one in zip(answers.rows, labels, strict=True)])
            for kind in range(answers.classes)
            if any((rows[:, 4] == kind).any() for rows in labels)
        ]

    def map(self, images: np.ndarray | None = None, overlaps: slice = slice(None)) -> float:
        """Mean of the classes and overlaps, of the images of bool [n], None: all; NaN if nothing is there."""
        chosen = np.ones(self.images, bool) if images is None else images
        found = np.array([precision.of(chosen)[overlaps] for precision in self.classes])
        there = found[~np.isnan(found)]
        return float(there.mean()) if there.size else float("nan")


def _matched(rows: np.ndarray, label: np.ndarray, kind: int) -> Matched:
    own, there = rows[rows[:, 5] == kind], label[label[:, 4] == kind]
    return match(own[:, :4], own[:, 4], there[:, :4], there[:, 5] > 0)
