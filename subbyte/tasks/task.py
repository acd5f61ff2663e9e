"""What every task has to say of a network's outputs."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

from subbyte.data.samples import Sample
from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.metrics.accuracy import wilson_interval
from subbyte.metrics.scores import MeanScore, Score
from subbyte.metrics.statistics import Comparison, paired_means
from subbyte.system.units import interval_text, percent, points

if TYPE_CHECKING:
    from torch import Tensor

#: A network's outputs in the order of its graph, float32 [N, ...] each, channels last.
Outputs = Sequence[np.ndarray]
A = TypeVar("A")
T = TypeVar("T")


@dataclass(frozen=True)
class Guess:
    """An answer beside its label, in the words of a report. note: how sure, or how far off."""

    text: str
    note: str
    right: bool


class Task(ABC, Generic[A]):
    """A is what the task keeps of a network's outputs for n images: its answers.

    name: its key in TASKS, its form, if it is not the plain one, and its outputs, if it does not judge all.
    outputs: the places of those that it judges in the order in which the task has them; None: all. Its
    methods get these only: whoever calls them chooses by `judged`. title: of what it scores, of which
    more is better, up to 1; key: that as a JSON value. errors: the other measures of a score by their
    JSON names: what they are called, and how one is written. score_keys, comparison_keys: of
    `Score.to_json` and `Comparison.to_json`. alike_title: what `alike` is called. methods: of the
    interval of a score and the p of a difference. gallery: what the report says of its sample images.
    places: whether answers are places in the image: `answers` needs `frames`. classes: whether the output
    is class scores: a temperature softens them, labels are class indices.
    """

    name: str
    outputs: tuple[int, ...] | None = None
    title: ClassVar[str]
    key: ClassVar[str]
    errors: ClassVar[Mapping[str, tuple[str, Callable[[float], str]]]] = {}
    alike_title: ClassVar[str]
    score_keys: ClassVar[tuple[str, ...]]
    comparison_keys: ClassVar[tuple[str, ...]] = ("difference", "difference_interval_95", "p")
    methods: ClassVar[tuple[str, str]] = ("its 95 % interval", "p of a normal test")
    gallery: ClassVar[str]
    places: ClassVar[bool] = False
    classes: ClassVar[bool] = False

    @abstractmethod
    def check(self, graph: Graph) -> None:
        """InputError, in one sentence, unless the graph's outputs can mean this."""

    def of(self, form: str) -> Task[A]:
        """The task as a text behind its name and a colon says. InputError if it has no such forms."""
        raise InputError(f"the task {self.name} has no form {form!r:.80}")

    def at(self, outputs: tuple[int, ...]) -> Task[A]:
        """The task of some of a network's outputs, given by their places."""
        made = copy.copy(self)
        made.outputs = outputs
        made.name = f"{self.name}@{','.join(map(str, outputs))}"
        return made

    def judged(self, outputs: Sequence[T]) -> list[T]:
        """Of one thing for each of the network's outputs, those of the outputs that the task judges.

        Raises InputError if the network has no such output.
        """
        if self.outputs is None:
            return list(outputs)
        if max(self.outputs) >= len(outputs):
            raise InputError(
                f"{self.name} is of the output {max(self.outputs)}, counted from 0; the network has "
                f"{len(outputs)}"
            )
        return [outputs[place] for place in self.outputs]

    def judged_graph(self, graph: Graph) -> Graph:
        """The graph with the outputs alone that the task judges. InputError as `judged`."""
        return replace(graph, outputs=tuple(self.judged(graph.outputs)))

    # ------------------------------------------------------------- training

    def distillation_loss(self, made: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        """A scalar of all outputs, float32 [N, ...], beside the float network's of equal shapes: 0 where they
        are equal. Here the mean square error over the variance, mean of the outputs."""
        return relative_loss(made, wanted)

    @abstractmethod
    def label_loss(self, made: Sequence[Tensor], labels: Tensor) -> Tensor:
        """A scalar of all outputs beside labels of N samples, as `np.array` makes them of `Sample.label`."""

    # ------------------------------------------------------------- answers

    @abstractmethod
    def answers(self, outputs: Outputs, frames: np.ndarray | None = None) -> A:
        """frames: as `prediction.frame` has them, float64 [N, 6]; None: the input is the whole image.

        Raises InputError for outputs that are not finite.
        """

    @abstractmethod
    def joined(self, parts: Sequence[A]) -> A:
        """The answers to one part of the images after the other."""

    @abstractmethod
    def alike(self, answers: A, other: A) -> np.ndarray:
        """float64 [n] in 0..1: how alike two answers to the same image are, 1 where they are the same."""

    def divergence(self, made: Outputs, exact: Outputs) -> float | None:
        """A distance that is finer than `alike` and `relative_error`, if the task has one. [N, ...] each."""
        return None

    # ------------------------------------------------------------- labels

    @abstractmethod
    def read(self, folder: Path, graph: Graph, classes: Sequence[str] | None) -> list[Sample]:
        """The labelled images of a folder. classes: the artifact's names. InputError: no labels that fit."""

    @abstractmethod
    def credit(self, answers: A, samples: Sequence[Sample]) -> np.ndarray:
        """float64 [n], at most 1: what each answer counts beside its label. The score is its mean."""

    def measured(self, answers: A, samples: Sequence[Sample]) -> Mapping[str, float]:
        """The other measures, named as in `errors`."""
        return {}

    def interval(self, credit: np.ndarray) -> tuple[float, float]:
        """95 % interval of the mean; Wilson's, conservative, for a credit of 0..1."""
        return wilson_interval(float(credit.sum()), len(credit))

    def score(self, answers: A, samples: Sequence[Sample]) -> Score:
        """The score on labelled samples. InputError if a sample has no label or the numbers differ."""
        credit, errors = self.credit(answers, samples), self.measured(answers, samples)
        return MeanScore(
            self.title, self.key, len(samples), float(credit.mean()), *self.interval(credit), errors
        )

    def compared(self, answers: A, reference: A, samples: Sequence[Sample]) -> Comparison:
        """What the answers gain over a reference's, image by image."""
        return paired_means(self.credit(answers, samples) - self.credit(reference, samples))

    # ------------------------------------------------------------- what `subbyte run` and the report show

    @abstractmethod
    def described(self, answers: A, index: int, names: Sequence[str] | None) -> dict[str, Any]:
        """One answer as JSON values. names: of the classes."""

    @abstractmethod
    def lines(self, described: Mapping[str, Any]) -> list[tuple[str, ...]]:
        """That in words, a row of cells each."""

    @abstractmethod
    def guess(self, answers: A, index: int, sample: Sample, names: Sequence[str] | None) -> Guess:
        """One answer beside its label."""

    def truth(self, sample: Sample, names: Sequence[str] | None) -> str | None:
        """The label in words, if there is one and it can be said."""
        return None

    def marks(self, answers: A, index: int) -> np.ndarray:
        """float [m, 2]: places to mark in the image, x and y in 0..1 of it."""
        return np.empty((0, 2))

    def true_marks(self, sample: Sample) -> np.ndarray:
        """The same of the label."""
        return np.empty((0, 2))

    def further(self, score: Any) -> list[tuple[str, float | str, str, str]]:
        """More columns of the report: heading, number to sort by, text and note; dashes for None."""
        if score is None:
            return [(title, "", "–", "") for title, _ in self.errors.values()]
        return [
            (title, score.errors[key], text(score.errors[key]), "")
            for key, (title, text) in self.errors.items()
        ]

    # ------------------------------------------------------------- what `subbyte evaluate` shows

    def score_json(self, answers: A, samples: Sequence[Sample]) -> dict[str, Any]:
        """The score as JSON values."""
        score = self.score(answers, samples)
        return {**score.to_json(), f"{self.key}_interval_95": list(score.interval())}

    def agreement_json(self, answers: A, other: A) -> dict[str, Any]:
        """Agreement with another artifact as JSON values."""
        alike = self.alike(answers, other)
        interval = wilson_interval(float(alike.sum()), len(alike))
        return {"agreement": float(alike.mean()), "agreement_interval_95": list(interval)}

    def score_lines(self, row: Mapping[str, Any]) -> list[tuple[str, str]]:
        """What `score_json` made, in words: names and values."""
        return [
            (self.title, percent(row[self.key])),
            ("", interval_text(row[f"{self.key}_interval_95"])),
            *((title, text(row[key])) for key, (title, text) in self.errors.items()),
        ]

    def agreement_lines(self, row: Mapping[str, Any], reference: str) -> list[tuple[str, str]]:
        """The same of `agreement_json` and, if there is one, `Comparison.to_json`."""
        lines = [
            (self.alike_title, f"{percent(row['agreement'])}  with {reference}"),
            ("", interval_text(row["agreement_interval_95"])),
        ]
        if "difference" in row:
            low, high = row["difference_interval_95"]
            lines.append((f"{self.title} beside it", points(row["difference"])))
            lines.append(("", f"95 % interval {points(low)} to {points(high)}, p = {row['p']:.2g}"))
        return lines

    def columns(self, compared: bool) -> list[str]:
        """Headings of a table with a row for each set of images."""
        own = [self.title, "95 % interval"]
        return [*own, self.alike_title, f"{self.title} beside it", "p"] if compared else own

    def cells(self, row: Mapping[str, Any], compared: bool) -> list[str]:
        """A row of that table; dashes where nothing was measured."""
        own = ["–", "–"]
        if self.key in row:
            own = [percent(row[self.key]), interval_text(row[f"{self.key}_interval_95"], "")]
        if not compared:
            return own
        change = [points(row["difference"]), f"{row['p']:.2g}"] if "difference" in row else ["–", "–"]
        return [*own, percent(row["agreement"]), *change]


def shapes(graph: Graph) -> list[tuple[int, ...]]:
    """Of the outputs, per image."""
    return [tuple(graph.value(name).shape) for name in graph.outputs]


def as_outputs(found: np.ndarray | Outputs) -> tuple[np.ndarray, ...]:
    """What a session or peer returned, always as a tuple. InputError if a number is not finite."""
    outputs = (found,) if isinstance(found, np.ndarray) else tuple(found)
    if not all(np.isfinite(y).all() for y in outputs):
        raise InputError("the network's output holds NaN or infinity")
    return outputs


def labels_of(samples: Sequence[Sample], count: int) -> np.ndarray:
    """The labels of the images of `count` answers. InputError if one has none, or the numbers differ."""
    if len(samples) != count or any(sample.label is None for sample in samples):
        raise InputError("a score needs one labelled image per answer")
    return np.array([sample.label for sample in samples])


def relative_error(made: Outputs, exact: Outputs) -> float:
    """Mean square error over the variance of the exact numbers, mean of the outputs; 0 if they are equal."""
    errors = [((m - e) ** 2).mean() / (e.var() or 1.0) for m, e in zip(made, exact, strict=True)]
    return float(np.mean(errors))


def relative_loss(made: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """`relative_error` of tensors [N, ...] as a scalar to be trained by."""
    errors = [(m - w).square().mean() / (w.var() + 1e-12) for m, w in zip(made, wanted, strict=True)]
    return sum(errors[1:], errors[0]) / len(errors)
