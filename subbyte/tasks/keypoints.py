"""Key points: K places in the image, such as the landmarks of a hand, regressed without heat maps.

One output holds x and y of each point in turn, in 0..1 of the network's input, as [2K] or as a map whose last
axis is x and y. Labels and answers are in 0..1 of the whole image: what crop and resize did is undone.
"""

from __future__ import annotations

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

WHOLE = (0.0, 0.0, 1.0, 1.0, 1.0, 1.0)  # the frame of an input that is the image, of unknown size


@dataclass(frozen=True, eq=False)
class Points:
    """xy: float64 [n, K, 2], x and y in 0..1 of the image. size: float64 [n, 2], its width and height."""

    xy: np.ndarray
    size: np.ndarray


class Keypoints(Task[Points]):
    """K points, x and y in turn, in 0..1 of the input image."""

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

    def check(self, graph: Graph) -> None:
        found = shapes(graph)
        size = prod(found[0])
        if len(found) != 1 or size % 2 or (len(found[0]) > 1 and found[0][-1] != 2):
            raise InputError(
                f"the network's outputs have the shapes {found}: key points are one output of x and y in turn"
            )

    def label_loss(self, made: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Mean distance along x and along y, of the points that are labelled. labels: float32 [N, 2K]."""
        (m,) = made
        away = (rows(m) - labels).abs()
        return away[~labels.isnan()].mean()

    def answers(self, outputs: Outputs, frames: np.ndarray | None = None) -> Points:
        (found,) = outputs
        n = len(found)
        frames = np.tile(WHOLE, (n, 1)) if frames is None else frames
        xy = found.reshape(n, -1, 2).astype(np.float64)
        return Points(frames[:, None, :2] + xy * frames[:, None, 2:4], frames[:, 4:])

    def joined(self, parts: Sequence[Points]) -> Points:
        return Points(np.concatenate([p.xy for p in parts]), np.concatenate([p.size for p in parts]))

    def alike(self, answers: Points, other: Points) -> np.ndarray:
        """PCK, with the other's points in the place of labels."""
        return correct_share(distances(answers.xy, other.xy, other.size))

    def read(self, folder: Path, graph: Graph, classes: Sequence[str] | None) -> list[Sample]:
        samples = numbered_folder(folder, prod(shapes(graph)[0]), gaps=True)
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


def rows(output: Tensor) -> Tensor:
    """A torch output, channels first, as [N, numbers] in the order of the graph's, channels last."""
    return (output.movedim(1, -1) if output.ndim == 4 else output).flatten(1)
