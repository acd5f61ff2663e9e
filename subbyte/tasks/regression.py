"""Regression: numbers of any meaning, of one output or several, which have no task of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from subbyte.data.labels import numbered_folder
from subbyte.data.samples import Sample
from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.metrics.statistics import mean_interval
from subbyte.tasks.keypoints import rows
from subbyte.tasks.task import Guess, Outputs, Task, labels_of, shapes

if TYPE_CHECKING:
    from torch import Tensor

SHOWN = 6  # numbers of an answer in words


class Regression(Task[np.ndarray]):
    """Answers are float64 [n, numbers], all outputs one after the other.

    R² is the coefficient of determination, the mean of those of the numbers: 1 - the mean square error over
    the variance of the labels. In its interval and in comparisons the variance counts as known.
    """

    name = "regression"
    title = "R²"
    key = "r2"
    errors: ClassVar[Mapping[str, Any]] = {
        "mae": ("mean absolute error", "{:.4g}".format),
        "rmse": ("root mean square error", "{:.4g}".format),
    }
    score_keys = ("r2", "mae", "rmse")
    alike_title = "agreement, R²"
    gallery: ClassVar[str] = (
        "The label in bold, then each network's numbers and their root mean square error; ✓ where that is at "
        "most a tenth of the label's root mean square."
    )

    def check(self, graph: Graph) -> None:
        """Any output is numbers."""

    def label_loss(self, made: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Mean square error. labels: float32 [N, numbers]."""
        import torch

        return (torch.cat([rows(m) for m in made], 1) - labels).square().mean()

    def answers(self, outputs: Outputs, frames: np.ndarray | None = None) -> np.ndarray:
        return np.concatenate([y.reshape(len(y), -1) for y in outputs], axis=1).astype(np.float64)

    def joined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(parts)

    def alike(self, answers: np.ndarray, other: np.ndarray) -> np.ndarray:
        """R² with the other's numbers in the place of labels, an image's at least 0."""
        return np.maximum(determined(answers, other), 0.0)

    def read(self, folder: Path, graph: Graph, classes: Sequence[str] | None) -> list[Sample]:
        return numbered_folder(folder, sum(map(prod, shapes(graph))))

    def credit(self, answers: np.ndarray, samples: Sequence[Sample]) -> np.ndarray:
        """Each image's part of R². InputError if all labels are equal."""
        labels = labels_of(samples, len(answers))
        if not labels.var(axis=0).any():
            raise InputError("R² needs images whose labels differ")
        return determined(answers, labels)

    def measured(self, answers: np.ndarray, samples: Sequence[Sample]) -> Mapping[str, float]:
        away = answers - labels_of(samples, len(answers))
        return {"mae": float(np.abs(away).mean()), "rmse": float(np.sqrt(np.square(away).mean()))}

    def interval(self, credit: np.ndarray) -> tuple[float, float]:
        return mean_interval(credit, -np.inf, 1.0)

    def described(self, answers: np.ndarray, index: int, names: Sequence[str] | None) -> dict[str, Any]:
        return {"values": answers[index].tolist()}

    def lines(self, described: Mapping[str, Any]) -> list[tuple[str, ...]]:
        return [(str(i), f"{value:.6g}") for i, value in enumerate(described["values"])]

    def guess(self, answers: np.ndarray, index: int, sample: Sample, names: Sequence[str] | None) -> Guess:
        label = np.array(sample.label)
        error, size = (float(np.sqrt(np.square(x).mean())) for x in (answers[index] - label, label))
        return Guess(_text(answers[index]), f"{error:.3g}", error <= 0.1 * size)

    def truth(self, sample: Sample, names: Sequence[str] | None) -> str | None:
        return _text(np.array(sample.label))


def determined(answers: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """float64 [n] with mean R², of the numbers whose expected values differ. Both float64 [n, numbers]."""
    variance = expected.var(axis=0)
    varied = variance > 0
    if not varied.any():  # nothing to explain: all or nothing
        return (answers == expected).all(axis=1).astype(np.float64)
    squares = np.square(answers - expected)[:, varied] / variance[varied]
    return np.asarray(1.0 - squares.mean(axis=1))


def _text(numbers: np.ndarray) -> str:
    return ", ".join(f"{x:.3g}" for x in numbers[:SHOWN]) + (", …" if len(numbers) > SHOWN else "")
