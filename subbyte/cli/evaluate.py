"""`subbyte evaluate`: how often an artifact is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from subbyte.cli import options
from subbyte.cli.console import show, show_json
from subbyte.cli.evaluate_tables import tables
from subbyte.cli.measure import (
    Subject,
    check_extras,
    predictions_of,
    robustness_of,
    shape_bias_of,
    subject,
)
from subbyte.cli.options import SET, SETS
from subbyte.data.samples import Sample
from subbyte.data.sets import ImageSet, parse_sets
from subbyte.metrics.robustness import Robustness
from subbyte.metrics.statistics import Comparison, random_effects
from subbyte.metrics.transfer import transfer
from subbyte.tasks import Task
from subbyte.tasks.table import DEFAULT

FLOOR = 0.70  # the top-1 that --reference-accuracy says the distance to


@dataclass(frozen=True)
class _Answers:
    """What the artifact, and the other one if there is one, say about the images of a set, or of all."""

    task: Task[Any]
    samples: Sequence[Sample]
    own: Any
    reference: Any

    @property
    def labelled(self) -> bool:
        return all(sample.label is not None for sample in self.samples)

    @property
    def compared(self) -> Comparison | None:
        """None without labels or without another artifact."""
        if self.reference is None or not self.labelled:
            return None
        return self.task.compared(self.own, self.reference, self.samples)


def evaluate(
    artifact: options.Artifact_,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar=SET, help=f"{SETS} With --against images without labels will do."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option("--against", "--reference", help="Another artifact, to compare with image by image."),
    ] = None,
    reference_accuracy: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Top-1 of --against on a harder set; bounds this artifact's there."),
    ] = None,
    corruptions: options.Corruptions = None,
    severities: options.Severities = "1,2,3,4,5",
    cue_conflict: options.CueConflictFolder = None,
    task: options.TaskName = None,
    resize: options.Resize = None,
    limit: options.Limit = None,
    threads: options.Threads = 1,
    isa: options.Isa = None,
    json: options.Json = False,
) -> None:
    """Accuracy with intervals; beside another artifact's; on corrupted images; by shape and texture.

    Of other tasks than classification, what they score instead: PCK of key points, R² of numbers.
    """
    if not data and cue_conflict is None:
        raise typer.BadParameter("give --data or --cue-conflict")
    if reference_accuracy is not None and reference is None:
        raise typer.BadParameter("--reference-accuracy is that of --against")
    if corruptions is not None or reference_accuracy is not None:
        import scipy  # noqa: F401  better missed now than behind thousands of images
    sets = parse_sets(data or [])
    needs_labels = reference is None or reference_accuracy is not None or corruptions is not None
    one = subject(artifact, resize, threads, isa, task)
    other = None if reference is None else subject(reference, resize, threads, isa, one.task.name)
    extras = options.Extras(corruptions, severities, cue_conflict=cue_conflict)
    check_extras(extras, one)
    if reference_accuracy is not None:
        one.classes("--reference-accuracy")
    result: dict[str, Any] = {"artifact": str(artifact), "isa": one.session.isa, "threads": threads}
    if one.task.name != DEFAULT:
        result["task"] = one.task.name
    if other is not None:
        result["reference"] = str(other.path)
    if sets:
        images = [
            each.samples(one.read, limit)
            if needs_labels or each.is_labelled
            else each.unlabelled_samples(limit)
            for each in sets
        ]
        answers = [_answers(one, other, samples) for samples in images]
        result |= _on_sets(sets, answers, reference_accuracy)
        if corruptions is not None:
            samples = [sample for each in answers for sample in each.samples]
            result["robustness"] = _robustness(one, other, samples, extras)
    if cue_conflict is not None:
        result["cue_conflict"] = shape_bias_of(one, cue_conflict, resize).to_json()
    if json:
        show_json(result)
    else:
        show(*tables(result))


def _answers(one: Subject, other: Subject | None, samples: Sequence[Sample]) -> _Answers:
    reference = None if other is None else predictions_of(other, samples)
    return _Answers(one.task, samples, predictions_of(one, samples), reference)


def _on_sets(
    sets: Sequence[ImageSet], answers: Sequence[_Answers], reference_accuracy: float | None
) -> dict[str, Any]:
    """All images together, each set alone, and what the sets say of others like them, as JSON values."""
    rows = [
        {"data": str(each.folder), "resize": each.resize} | _row(answer)
        for each, answer in zip(sets, answers, strict=True)
    ]
    together = _together(answers)
    result = _row(together) | {"sets": rows}
    pairs = [pair for answer in answers if (pair := answer.compared) is not None]
    if len(pairs) > 1:
        effects = random_effects([p.difference for p in pairs], [p.variance for p in pairs])
        result["between_sets"] = {
            "difference": effects.mean,
            "difference_interval_95": list(effects.interval()),
            "deviation": effects.deviation,
            "sets": len(pairs),
        }
    if reference_accuracy is not None:
        assert together.reference is not None
        labels = np.array([sample.label for sample in together.samples])
        bound = transfer(together.own, together.reference, labels, reference_accuracy)
        result["transfer"] = bound.to_json(FLOOR)
    return result


def _together(answers: Sequence[_Answers]) -> _Answers:
    task = answers[0].task
    references = [answer.reference for answer in answers if answer.reference is not None]
    return _Answers(
        task,
        [sample for answer in answers for sample in answer.samples],
        task.joined([answer.own for answer in answers]),
        task.joined(references) if references else None,
    )


def _row(answers: _Answers) -> dict[str, Any]:
    """Accuracy if there are labels, and the comparison if there is another artifact, as JSON values."""
    task, both = answers.task, answers.compared
    result: dict[str, Any] = {"images": len(answers.samples)}
    if answers.labelled:
        result |= task.score_json(answers.own, answers.samples)
    if answers.reference is not None:
        result |= task.agreement_json(answers.own, answers.reference)
    return result if both is None else result | both.to_json()


def _robustness(
    one: Subject, other: Subject | None, samples: Sequence[Sample], extras: options.Extras
) -> dict[str, Any]:
    subjects = [one] if other is None else [one, other]
    first, *rest = robustness_of(subjects, samples, extras)
    return first.to_json() | (robustness_change(first, rest[0]) if rest else {})


def robustness_change(one: Robustness, reference: Robustness) -> dict[str, Any]:
    """Mean corruption accuracy beside the reference's, as JSON values."""
    difference, interval = one.change(reference)
    return {
        "reference_mean_accuracy": reference.mean,
        "difference": difference,
        "difference_interval_95": list(interval),
    }
