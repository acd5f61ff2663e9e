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
from subbyte.data.samples import Sample, with_resize
from subbyte.data.sets import ImageSet
from subbyte.errors import InputError
from subbyte.execute.native import Session
from subbyte.ir import Graph
from subbyte.metrics.accuracy import Predictions, Predictor, predict
from subbyte.metrics.cue_conflict import ShapeBias, read_cue_conflict, shape_bias
from subbyte.metrics.robustness import Robustness, measure_robustness, parse_severities
from subbyte.preprocess import Preprocessing


@dataclass(frozen=True, eq=False)
class Subject:
    """An artifact of a classifier, loaded into the engine. load_seconds: what that took."""

    path: Path
    artifact: Artifact
    session: Session
    preprocessing: Preprocessing
    classes: int
    load_seconds: float

    @property
    def run(self) -> Predictor:
        """The artifact's outputs of images, as metrics take them."""
        return logits_of(self.session.run)


def subject(path: Path, resize: str | None, threads: int, isa: str | None) -> Subject:
    """InputError if the artifact is no classifier; resize: as `with_resize` takes it."""
    start = time.perf_counter()
    artifact = load(path)
    session = Session(artifact, threads=threads, isa=isa)
    seconds = time.perf_counter() - start
    preprocessing = with_resize(artifact.preprocessing, resize)
    return Subject(path, artifact, session, preprocessing, class_count(artifact.graph), seconds)


def class_count(graph: Graph) -> int:
    """The number of classes of a classifier. InputError if the graph is not one."""
    shapes = [graph.value(name).shape for name in graph.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 1:
        raise InputError(f"the network's outputs have the shapes {shapes}: it is no classifier")
    return shapes[0][0]


def logits_of(run: Callable[[np.ndarray], Any]) -> Predictor:
    """A session's or peer's `run` for a network with one output, as `class_count` has made sure."""

    def logits(x: np.ndarray) -> np.ndarray:
        outputs = run(x)
        assert isinstance(outputs, np.ndarray)
        return outputs

    return logits


def labelled(one: Subject, sets: Sequence[ImageSet], limit: int | None) -> list[Sample]:
    """The images of all sets, at most `limit` of each, labels checked against the artifact's classes."""
    found = [each.samples(one.classes, one.artifact.classes, limit) for each in sets]
    return [sample for samples in found for sample in samples]


def predictions_of(one: Subject, samples: Sequence[Sample]) -> Predictions:
    """What the artifact says about the images."""
    with progress(f"evaluating {one.path.name}", len(samples)) as done:
        return predict(one.run, samples, one.preprocessing, progress=done)


def robustness_of(
    subjects: Sequence[Subject], samples: Sequence[Sample], corruptions: str, severities: str
) -> list[Robustness]:
    """All on the same corrupted images. corruptions, severities: comma-separated."""
    families, levels = parse_corruptions(corruptions, severities)
    contenders = [(one.run, one.preprocessing) for one in subjects]
    with progress("corrupted images", len(samples)) as done:
        return measure_robustness(contenders, samples, families, levels, progress=done)


def parse_corruptions(corruptions: str, severities: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Families and severities of comma-separated lists. InputError for an unknown one."""
    from subbyte.data.corruptions import families_of

    families = families_of([name.strip() for name in corruptions.split(",") if name.strip()])
    return families, parse_severities(severities)


def check_extras(
    corruptions: str | None, severities: str, cue_conflict: Path | None, classes: int | None = None
) -> None:
    """InputError for what is wrong with these options, before anything is measured."""
    parse_severities(severities)
    if corruptions is not None:
        parse_corruptions(corruptions, severities)
    if cue_conflict is not None:
        read_cue_conflict(cue_conflict, classes)


def shape_bias_of(one: Subject, folder: Path, resize: str | None) -> ShapeBias:
    """On the folder's images, squashed to the input, as they are 224 x 224 for a network of that size,
    unless `resize` says something else."""
    data = read_cue_conflict(folder, one.classes)
    preprocessing = with_resize(one.artifact.preprocessing, resize or "squash")
    with progress(f"cue conflict, {one.path.name}", len(data.samples)) as done:
        return shape_bias(one.run, data, preprocessing, progress=done)
