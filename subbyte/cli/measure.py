"""What `evaluate`, `report` and `ablate` measure, with progress bars."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from subbyte.artifact import Artifact, load
from subbyte.cli.console import progress
from subbyte.cli.options import Extras
from subbyte.data.samples import Sample, with_resize
from subbyte.data.sets import ImageSet
from subbyte.errors import InputError
from subbyte.execute.native import Session
from subbyte.metrics.cue_conflict import ShapeBias, read_cue_conflict, shape_bias
from subbyte.metrics.robustness import (
    Robustness,
    check_corruptible,
    measure_robustness,
    parse_severities,
)
from subbyte.preprocess import Preprocessing
from subbyte.tasks import Task, artifact_task, predict
from subbyte.tasks.classification import Classification, class_count


@dataclass(frozen=True, eq=False)
class Subject:
    """An artifact, loaded into the engine, and what its outputs mean. load_seconds: what loading took."""

    path: Path
    artifact: Artifact
    session: Session
    preprocessing: Preprocessing
    task: Task[Any]
    load_seconds: float

    @property
    def run(self) -> Callable[[np.ndarray], Any]:
        """The artifact's outputs of images, as tasks take them."""
        return self.session.run

    def read(self, folder: Path) -> list[Sample]:
        """The folder's images with labels of the artifact's task. InputError as `Task.read`."""
        return self.task.read(folder, self.task.judged_graph(self.artifact.graph), self.artifact.classes)

    def classes(self, what: str) -> int:
        """The number of classes. InputError if the task has none, saying `what` needs them."""
        if not isinstance(self.task, Classification):
            raise InputError(
                f"{what} needs the task classification, but that of {self.path} is {self.task.name}"
            )
        return class_count(self.artifact.graph)


def subject(
    path: Path, resize: str | None, threads: int, isa: str | None, task: str | None = None
) -> Subject:
    """resize: as `with_resize` takes it. task: a name of TASKS, None for what the artifact says.

    InputError if its outputs do not fit the task.
    """
    start = time.perf_counter()
    artifact = load(path)
    session = Session(artifact, threads=threads, isa=isa)
    seconds = time.perf_counter() - start
    preprocessing = with_resize(artifact.preprocessing, resize)
    return Subject(path, artifact, session, preprocessing, artifact_task(artifact, task), seconds)


def labelled(one: Subject, sets: Sequence[ImageSet], limit: int | None) -> list[Sample]:
    """The images of all sets, at most `limit` of each, with labels that fit the artifact."""
    return [sample for each in sets for sample in each.samples(one.read, limit)]


def predictions_of(one: Subject, samples: Sequence[Sample]) -> Any:
    """What the artifact says about the images: answers of its task."""
    with progress(f"evaluating {one.path.name}", len(samples)) as done:
        return predict(one.run, samples, one.preprocessing, task=one.task.name, progress=done)


def robustness_of(subjects: Sequence[Subject], samples: Sequence[Sample], extras: Extras) -> list[Robustness]:
    """All on the same images, corrupted as `extras` says."""
    families, levels = parse_corruptions(extras)
    contenders = [(one.run, one.preprocessing) for one in subjects]
    with progress("corrupted images", len(samples)) as done:
        return measure_robustness(contenders, samples, families, levels, progress=done)


def parse_corruptions(extras: Extras) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Families, none where none are given, and severities. InputError for an unknown one."""
    from subbyte.data.corruptions import families_of

    names = (name.strip() for name in (extras.corruptions or "").split(","))
    families = families_of([name for name in names if name])
    return families, parse_severities(extras.severities)


def check_extras(extras: Extras, one: Subject | None = None) -> None:
    """InputError for what is wrong with these options, before anything is measured. one: of which it is."""
    parse_severities(extras.severities)
    if extras.corruptions is not None:
        parse_corruptions(extras)
        if one is not None:
            one.classes("--corruptions")
            check_corruptible([one.preprocessing])
    if extras.cue_conflict is not None:
        read_cue_conflict(extras.cue_conflict, None if one is None else one.classes("--cue-conflict"))


def shape_bias_of(one: Subject, folder: Path, resize: str | None) -> ShapeBias:
    """On the folder's images, squashed to the input, as they are 224 x 224 for a network of that size,
    unless `resize` says something else."""
    data = read_cue_conflict(folder, one.classes("--cue-conflict"))
    preprocessing = with_resize(one.artifact.preprocessing, resize or "squash")
    with progress(f"cue conflict, {one.path.name}", len(data.samples)) as done:
        return shape_bias(one.run, data, preprocessing, progress=done)
