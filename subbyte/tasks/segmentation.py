"""Segmentation: a class for each position of the image, from one map of numbers.

Of several channels the largest is the class (`segmentation`). One channel is a foreground (class 1) where it
is above a threshold, 0.5 if nothing else is said, which is the middle of a probability; `segmentation:0` is
that of logits. A map may be smaller than the image: each pixel belongs to the position it lies in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from subbyte.data.decode import read_mask
from subbyte.data.masks import IGNORED, masked_folder
from subbyte.data.samples import Sample
from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.metrics.jackknife import pseudo_values
from subbyte.metrics.regions import mean_overlap, overlaps
from subbyte.metrics.statistics import mean_interval
from subbyte.system.units import percent
from subbyte.tasks.task import Guess, Outputs, Task, shapes

if TYPE_CHECKING:
    from torch import Tensor

THRESHOLD = 0.5
GOOD = 0.9  # mean overlap of an image from which the report calls it right
SHOWN = 0.001  # the share of an image from which a class is named
WHOLE = (0.0, 0.0, 1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Regions:
    """maps: of each image uint8 [h, w], classes of positions of the input. frames: float64 [n, 6], where the
    input lies in the image (`prediction.frame`). classes: how many there are."""

    maps: tuple[np.ndarray, ...]
    frames: np.ndarray
    classes: int

    def at(self, index: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """The classes at the centres of height x width pixels of the image; bool of the same shape, which of
        them the input holds. The first are those inside only, row by row."""
        found, (left, top, across, down, *_) = self.maps[index], self.frames[index]
        y = ((np.arange(height) + 0.5) / height - top) / down
        x = ((np.arange(width) + 0.5) / width - left) / across
        inside = [(z >= 0) & (z < 1) for z in (y, x)]
        row, column = (
            (z[within] * size).astype(np.int64)
            for z, within, size in zip((y, x), inside, found.shape, strict=True)
        )
        return found[row[:, None], column], inside[0][:, None] & inside[1]


class Segmentation(Task[Regions]):
    """A class for each position; scored by the mean over the classes of intersection over union."""

    name = "segmentation"
    title = "mIoU"
    key = "miou"
    errors: ClassVar[Mapping[str, Any]] = {"pixels": ("right pixels", percent)}
    score_keys = ("miou", "pixels")
    alike_title = "mIoU of an image"
    methods = ("95 % interval of the jackknife", "p of a normal test")
    gallery: ClassVar[str] = "Each network's mean intersection over union of the image; ✓ from 90 % on."
    places = True

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self.threshold = threshold

    def of(self, form: str) -> Segmentation:
        """form: the threshold. InputError if it is no number."""
        try:
            threshold = float(form)
        except ValueError:
            threshold = float("nan")
        if not np.isfinite(threshold):
            raise InputError(f"the threshold of segmentation must be a number, got {form!r:.80}")
        made = Segmentation(threshold)
        made.name = f"{type(self).name}:{form}"
        return made

    def check(self, graph: Graph) -> None:
        found = shapes(graph)
        if len(found) != 1 or len(found[0]) != 3 or found[0][2] >= IGNORED:
            raise InputError(
                f"the network's outputs have the shapes {found}: segmentation is one map with a channel for "
                f"each class, fewer than {IGNORED}"
            )

    def label_loss(self, made: Sequence[Tensor], labels: Tensor) -> Tensor:
        """There is none: raises InputError."""
        raise InputError("masks are no labels to train with; learn from the float network's outputs")

    def answers(self, outputs: Outputs, frames: np.ndarray | None = None) -> Regions:
        (found,) = outputs
        one = found.shape[3] == 1
        maps = found[..., 0] > self.threshold if one else found.argmax(axis=3)
        frames = np.tile(WHOLE, (len(found), 1)) if frames is None else frames
        return Regions(tuple(maps.astype(np.uint8)), frames, 2 if one else found.shape[3])

    def joined(self, parts: Sequence[Regions]) -> Regions:
        maps = tuple(one for part in parts for one in part.maps)
        return Regions(maps, np.concatenate([part.frames for part in parts]), parts[0].classes)

    def alike(self, answers: Regions, other: Regions) -> np.ndarray:
        """mIoU of each image, with the other's classes as labels, where both networks' inputs hold it."""
        return np.array([_alike(answers, other, index) for index in range(len(answers.maps))])

    def read(self, folder: Path, graph: Graph, classes: Sequence[str] | None) -> list[Sample]:
        return masked_folder(folder)

    def credit(self, answers: Regions, samples: Sequence[Sample]) -> np.ndarray:
        """Each image's part of mIoU. InputError for a mask without a pixel that counts, in all of them."""
        counts = self._counts(answers, samples)
        if not counts.any():
            raise InputError("mIoU needs a pixel that counts")
        return pseudo_values(lambda images: mean_overlap(counts[images].sum(axis=0)), len(samples))

    def measured(self, answers: Regions, samples: Sequence[Sample]) -> Mapping[str, float]:
        both, either = self._counts(answers, samples).sum(axis=(0, 2))
        # a wrong pixel is in the union of two classes
        return {"pixels": float(both / (both + (either - both) / 2))}

    def _counts(self, answers: Regions, samples: Sequence[Sample]) -> np.ndarray:
        """int64 [n, 2, classes], as `overlaps`, of the pixels of the masks."""
        if len(samples) != len(answers.maps):
            raise InputError("a score needs one labelled image per answer")
        return np.stack([_counted(answers, i, sample) for i, sample in enumerate(samples)])

    def interval(self, credit: np.ndarray) -> tuple[float, float]:
        return mean_interval(credit, 0.0, 1.0)

    def described(self, answers: Regions, index: int, names: Sequence[str] | None) -> dict[str, Any]:
        shares = np.bincount(answers.maps[index].ravel(), minlength=answers.classes)
        shares = shares / shares.sum()
        known = names if names is not None and len(names) == answers.classes else None
        return {
            "classes": [
                {"class": int(i), "share": float(shares[i])} | ({"name": known[i]} if known else {})
                for i in np.argsort(-shares, kind="stable")
                if shares[i] >= SHOWN
            ]
        }

    def lines(self, described: Mapping[str, Any]) -> list[tuple[str, ...]]:
        return [
            (f"{100 * row['share']:6.2f} %", row.get("name", f"class {row['class']}"))
            for row in described["classes"]
        ]

    def guess(self, answers: Regions, index: int, sample: Sample, names: Sequence[str] | None) -> Guess:
        found = mean_overlap(_counted(answers, index, sample))
        first = self.lines(self.described(answers, index, names))[0]
        return Guess(" ".join(first).strip(), f"{100 * found:.0f} % mIoU", found >= GOOD)


def _alike(answers: Regions, other: Regions, index: int) -> float:
    """At the pixels of the image; of one of unknown size, at the other map's positions."""
    width, height = (round(side) for side in other.frames[index][4:])
    if (height, width) == (1, 1):
        height, width = other.maps[index].shape
    (own, inside), (there, within) = (one.at(index, height, width) for one in (answers, other))
    both = inside & within
    found = mean_overlap(
        overlaps(
            own[both[inside].reshape(own.shape)], there[both[within].reshape(there.shape)], other.classes
        )
    )
    return 1.0 if np.isnan(found) else found


def _counted(answers: Regions, index: int, sample: Sample) -> np.ndarray:
    if not isinstance(sample.label, Path):
        raise InputError("a score needs one labelled image per answer")
    mask = read_mask(sample.label)
    found, inside = answers.at(index, *mask.shape)
    there = mask[inside].reshape(found.shape)
    known = there != IGNORED
    if known.any() and there[known].max() >= answers.classes:
        wrong = int(there[known].max())
        raise InputError(f"{sample.label} has the class {wrong}: the network has {answers.classes}")
    return overlaps(found[known], there[known], answers.classes)
