"""Classification: one vector of class scores (logits); an image belongs to the class of the largest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from subbyte.data.samples import Sample, labelled_folder
from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.metrics.accuracy import (
    Accuracy,
    Predictions,
    agreement,
    joined,
    score,
    top_classes,
    wilson_interval,
)
from subbyte.metrics.statistics import Comparison, calibration_error, correct, paired
from subbyte.system.units import interval_text, percent, points
from subbyte.tasks.task import Guess, Outputs, Task, shapes

if TYPE_CHECKING:
    from torch import Tensor


class Classification(Task[Predictions]):
    """One vector of class scores: the best is the answer (top-1)."""

    name = "classification"
    title = "top-1"
    key = "top1"
    alike_title = "same best class"
    score_keys = ("top1", "top5")
    comparison_keys = ("lost", "gained", "difference", "difference_interval_95", "mcnemar_p")
    methods = ("Wilson's 95 % interval", "McNemar's exact p")
    gallery: ClassVar[str] = "The label in bold, then each network's best class."
    classes: ClassVar[bool] = True

    def check(self, graph: Graph) -> None:
        class_count(graph)

    def distillation_loss(self, made: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        """KL(softmax(wanted) || softmax(made)), mean over images, nats (arXiv 1503.02531)."""
        from torch.nn import functional as F

        (m,), (w,) = made, wanted
        return F.kl_div(m.log_softmax(1), w.log_softmax(1), reduction="batchmean", log_target=True)

    def label_loss(self, made: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Cross entropy, nats. labels: int64 [N]."""
        from torch.nn import functional as F

        (m,) = made
        return F.cross_entropy(m, labels)

    def divergence(self, made: Outputs, exact: Outputs) -> float:
        """`distillation_loss` of float64 numbers."""
        log_p, log_q = log_softmax(exact[0]), log_softmax(made[0])
        return float((np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean())

    def answers(self, outputs: Outputs, frames: np.ndarray | None = None) -> Predictions:
        (logits,) = outputs
        return top_classes(logits)

    def joined(self, parts: Sequence[Predictions]) -> Predictions:
        return joined(parts)

    def alike(self, answers: Predictions, other: Predictions) -> np.ndarray:
        return (answers.top[:, 0] == other.top[:, 0]).astype(np.float64)

    def read(self, folder: Path, graph: Graph, classes: Sequence[str] | None) -> list[Sample]:
        return labelled_folder(folder, class_count(graph), classes)

    def credit(self, answers: Predictions, samples: Sequence[Sample]) -> np.ndarray:
        return correct(answers, samples).astype(np.float64)

    def score(self, answers: Predictions, samples: Sequence[Sample]) -> Accuracy:
        return score(answers, samples)

    def compared(self, answers: Predictions, reference: Predictions, samples: Sequence[Sample]) -> Comparison:
        return paired(correct(answers, samples), correct(reference, samples))

    # ------------------------------------------------------------- what `subbyte run` and the report show

    def described(self, answers: Predictions, index: int, names: Sequence[str] | None) -> dict[str, Any]:
        pairs = zip(answers.top[index], answers.probability[index], strict=True)
        return {
            "top": [
                {"class": int(i), "name": class_name(int(i), names), "probability": float(p)}
                for i, p in pairs
            ]
        }

    def lines(self, described: Mapping[str, Any]) -> list[tuple[str, ...]]:
        return [(f"{100 * row['probability']:6.2f} %", row["name"]) for row in described["top"]]

    def guess(self, answers: Predictions, index: int, sample: Sample, names: Sequence[str] | None) -> Guess:
        best, probability = int(answers.top[index, 0]), float(answers.probability[index, 0])
        return Guess(class_name(best, names), f"{100 * probability:.0f} %", best == sample.label)

    def truth(self, sample: Sample, names: Sequence[str] | None) -> str | None:
        return class_name(sample.label, names) if isinstance(sample.label, int) else None

    def further(self, score: Accuracy | None) -> list[tuple[str, float | str, str, str]]:
        if score is None:
            return [("top-5, %", "", "–", "")]
        return [("top-5, %", score.top5_rate, f"{100 * score.top5_rate:.2f}", f"{score.top5} of {score.n}")]

    # ------------------------------------------------------------- what `subbyte evaluate` shows

    def score_json(self, answers: Predictions, samples: Sequence[Sample]) -> dict[str, Any]:
        found, right = score(answers, samples), correct(answers, samples)
        return {
            **found.to_json(),
            "top1_rate": found.top1_rate,
            "top5_rate": found.top5_rate,
            "top1_interval_95": list(found.interval()),
            "calibration_error": calibration_error(answers.probability[:, 0], right),
        }

    def agreement_json(self, answers: Predictions, other: Predictions) -> dict[str, Any]:
        same, n = agreement(answers, other), len(answers.top)
        return {
            "agreement": same,
            "agreement_interval_95": list(wilson_interval(same, n)),
            "changed": n - same,
        }

    def score_lines(self, row: Mapping[str, Any]) -> list[tuple[str, str]]:
        n = row["images"]
        return [
            ("top-1", f"{row['top1']} of {n}  {percent(row['top1_rate'])}"),
            ("", interval_text(row["top1_interval_95"])),
            ("top-5", f"{row['top5']} of {n}  {percent(row['top5_rate'])}"),
            ("calibration error", percent(row["calibration_error"])),
        ]

    def agreement_lines(self, row: Mapping[str, Any], reference: str) -> list[tuple[str, str]]:
        n, same = row["images"], row["agreement"]
        lines = [
            (self.alike_title, f"{same} of {n}  {percent(same / n)}  as {reference}"),
            ("", f"{interval_text(row['agreement_interval_95'])}, {row['changed']} changed"),
        ]
        if "lost" in row:
            low, high = row["difference_interval_95"]
            change = f"{points(row['difference'])}: {row['lost']} lost, {row['gained']} gained"
            p = f"McNemar p = {row['mcnemar_p']:.2g}"
            lines.append(("top-1 beside it", change))
            lines.append(("", f"95 % interval {points(low)} to {points(high)}, {p}"))
        return lines

    def columns(self, compared: bool) -> list[str]:
        own = [self.title, "95 % interval"]
        beside = [self.alike_title, "95 % interval", "lost", "gained", "top-1 beside it", "McNemar p"]
        return [*own, *beside] if compared else own

    def cells(self, row: Mapping[str, Any], compared: bool) -> list[str]:
        own = _share(row, "top1")
        if not compared:
            return own
        if "lost" not in row:
            return [*own, *_share(row, "agreement"), "–", "–", "–", "–"]
        low, high = (100 * end for end in row["difference_interval_95"])
        change = f"{points(row['difference'])} ({low:+.2f} to {high:+.2f})"
        counts = [str(row["lost"]), str(row["gained"])]
        return [*own, *_share(row, "agreement"), *counts, change, f"{row['mcnemar_p']:.2g}"]


def _share(row: Mapping[str, Any], key: str) -> list[str]:
    """A count with its share, and the share's interval; dashes if it was not counted."""
    if key not in row:
        return ["–", "–"]
    share = percent(row[key] / row["images"])
    return [f"{row[key]}  {share}", interval_text(row[f"{key}_interval_95"], "")]


def class_count(graph: Graph) -> int:
    """The number of classes of a classifier. InputError if the graph is not one."""
    found = shapes(graph)
    if len(found) != 1 or len(found[0]) != 1:
        raise InputError(
            f"the network's outputs have the shapes {found}: it is no classifier, "
            "whose output is one vector of class scores"
        )
    return found[0][0]


def class_name(index: int, names: Sequence[str] | None) -> str:
    """The class's name, or its number where there are no names."""
    return names[index] if names else f"class {index}"


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """float64 [N, classes] of the same shape."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
