"""Key points: K places in the image, such as the landmarks of a hand, regressed without heat maps.

One output holds each point's numbers in turn, as a vector or as a map whose last axis they are.

- `keypoints`: x and y, in 0..1 of the network's input.
- `keypoints:224x224:3` (width and height of the input, then numbers of a point): x and y in pixels of the
  input, then numbers that are not read, such as a depth. MediaPipe's landmarks are such points.

Labels and answers are in 0..1 of the whole image: what crop and resize did is undone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from subbyte.data.labels import numbered_folder
from subbyte.data.samples import Sample
from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.metrics.points import ALPHA, correct_share, distances, mean_distance
from subbyte.system.units import percent
from subbyte.tasks.task import Guess, Outputs, Task, labels_of, shapes

if TYPE_CHECKING:
    from torch import Tensor

_FORM = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4}):([2-9])")
WHOLE = (0.0, 0.0, 1.0, 1.0, 1.0, 1.0)  # the frame of an input that is the image, of unknown size


@dataclass(frozen=True, eq=False)
class Points:
    """xy: float64 [n, K, 2], x and y in 0..1 of the image. size: float64 [n, 2], its width and height."""

    xy: np.ndarray
    size: np.ndarray


class Keypoints(Task[Points]):
    """K points, of each x, y and perhaps further numbers in turn."""

    name = "keypoints"
    title = f"PCK@{ALPHA:g}"
    key = "pck"
    errors: ClassVar[Mapping[str, Any]] = {"nme": ("normalized mean error", percent)}
    score_keys = ("pck", "nme")
    alike_title = f"points within {ALPHA:g}"
    gallery: ClassVar[str] = (
        "White rings: the labels. Dots: each network's points, in the colour beside its name; then the share "
        "that is correct and the normalized mean error."
    )
    places = True

    def __init__(self, form: str = "") -> None:
        self.size, self.numbers = (1, 1), 2
        if form:
            self.name = f"{type(self).name}:{form}"
            self.size, self.numbers = _points(form)

    def of(self, form: str) -> Keypoints:
        """InputError for a form that cannot be read."""
        return Keypoints(form)

    def check(self, graph: Graph) -> None:
        found, each = shapes(graph), self.numbers
        if len(found) != 1 or prod(found[0]) % each or (len(found[0]) > 1 and found[0][-1] != each):
            told = "of x and y" if each == 2 else f"of the {each} numbers of each point"
            raise InputError(
                f"the network's outputs have the shapes {found}: key points are one output {told} in turn"
            )
        if self.size != (1, 1) and graph.value(graph.input).shape[:2] != self.size[::-1]:
            raise InputError(f"{self.name} is not of the network's input, {graph.value(graph.input).shape}")

    def label_loss(self, made: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Mean distance along x and along y, of the points that are labelled. labels: float32 [N, 2K]."""
        (m,) = made
        points = rows(m).unflatten(1, (-1, self.numbers))[..., :2]
        away = ((points / points.new_tensor(self.size)).flatten(1) - labels).abs()
        return away[~labels.isnan()].mean()

    def answers(self, outputs: Outputs, frames: np.ndarray | None = None) -> Points:
        (found,) = outputs
        n = len(found)
        frames = np.tile(WHOLE, (n, 1)) if frames is None else frames
        xy = found.reshape(n, -1, self.numbers)[..., :2].astype(np.float64) / self.size
        return Points(frames[:, None, :2] + xy * frames[:, None, 2:4], frames[:, 4:])

    def joined(self, parts: Sequence[Points]) -> Points:
        return Points(np.concatenate([p.xy for p in parts]), np.concatenate([p.size for p in parts]))

    def alike(self, answers: Points, other: Points) -> np.ndarray:
        """PCK, with the other's points in the place of labels."""
        return correct_share(distances(answers.xy, other.xy, other.size))

    def read(self, folder: Path, graph: Graph, classes: Sequence[str] | None) -> list[Sample]:
        samples = numbered_folder(folder, prod(shapes(graph)[0]) // self.numbers * 2, gaps=True)
        for sample in samples:
            if not np.isfinite(self.true_marks(sample)).any():
                raise InputError(f"{sample.path} has no labelled point")
        return samples

    def credit(self, answers: Points, samples: Sequence[Sample]) -> np.ndarray:
        return correct_share(self._distances(answers, samples))

    def measured(self, answers: Points, samples: Sequence[Sample]) -> Mapping[str, float]:
        return {"nme": mean_distance(self._distances(answers, samples))}

    def _distances(self, answers: Points, samples: Sequence[Sample]) -> np.ndarray:
        expected = labels_of(samples, len(answers.xy)).reshape(answers.xy.shape)
        half = np.isnan(expected).any(axis=2)
        return distances(answers.xy, np.where(half[..., None], np.nan, expected), answers.size)

    def described(self, answers: Points, index: int, names: Sequence[str] | None) -> dict[str, Any]:
        return {"points": answers.xy[index].tolist()}

    def lines(self, described: Mapping[str, Any]) -> list[tuple[str, ...]]:
        return [(str(i), f"x {x:.4f}", f"y {y:.4f}") for i, (x, y) in enumerate(described["points"])]

    def guess(self, answers: Points, index: int, sample: Sample, names: Sequence[str] | None) -> Guess:
        one = Points(answers.xy[index : index + 1], answers.size[index : index + 1])
        away = self._distances(one, [sample])
        share = float(correct_share(away)[0])
        return Guess(f"{100 * share:.0f} % correct", f"{100 * mean_distance(away):.1f} %", share == 1.0)

    def marks(self, answers: Points, index: int) -> np.ndarray:
        return answers.xy[index]

    def true_marks(self, sample: Sample) -> np.ndarray:
        assert isinstance(sample.label, tuple)
        points = np.array(sample.label).reshape(-1, 2)
        return points[~np.isnan(points).any(axis=1)]


def _points(form: str) -> tuple[tuple[int, int], int]:
    """(width, height) of the input, and how many numbers each point has."""
    found = _FORM.fullmatch(form)
    if found is None:
        raise InputError(
            f"keypoints:{form:.80} must be written like keypoints:224x224:3, which is width and height of "
            "the input and the numbers of each point, 2 or more"
        )
    return (int(found[1]), int(found[2])), int(found[3])


def rows(output: Tensor) -> Tensor:
    """A torch output, channels first, as [N, numbers] in the order of the graph's, channels last."""
    return (output.movedim(1, -1) if output.ndim == 4 else output).flatten(1)
