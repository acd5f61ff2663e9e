"""The table of tasks, and which of them a network's is."""

from __future__ import annotations

import re
from typing import Any

from subbyte.artifact import Artifact
from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.tasks.classification import Classification
from subbyte.tasks.detection import Detection
from subbyte.tasks.keypoints import Keypoints
from subbyte.tasks.regression import Regression
from subbyte.tasks.segmentation import Segmentation
from subbyte.tasks.task import Task

#: By the names that `--task` takes. The first is that of a network of which nothing is said.
TASKS: dict[str, Task[Any]] = {
    "classification": Classification(),
    "detection": Detection(),
    "keypoints": Keypoints(),
    "regression": Regression(),
    "segmentation": Segmentation(),
}
DEFAULT = "classification"
#: Where the provenance of an artifact names a task other than the default.
PROVENANCE = "task"
_PLACES = re.compile(r"\d{1,3}(,\d{1,3})*")


def named(name: str) -> Task[Any]:
    """The task of that name, or of a form of it, such as "segmentation:0"; of all outputs of a network, or of
    some, such as "keypoints@2" or "detection@1,0".

    Raises InputError: an unknown task or form, or outputs that are no list.
    """
    meant, at, places = str(name).partition("@")
    kind, _, form = meant.partition(":")
    if not isinstance(name, str) or kind not in TASKS:
        raise InputError(f"unknown task {name!r:.80}; known: {', '.join(TASKS)}")
    task = TASKS[kind].of(form) if form else TASKS[kind]
    if not at:
        return task
    if not _PLACES.fullmatch(places):
        raise InputError(f"{name!r:.80}: the outputs behind @ must be counted from 0, such as @0 or @1,0")
    return task.at(tuple(map(int, places.split(","))))


def task_of(graph: Graph, name: str | None = None) -> Task[Any]:
    """The task of that name, if the graph's outputs fit it; without a name classification.

    Raises InputError: an unknown name, or outputs that do not fit.
    """
    task = named(DEFAULT if name is None else name)
    try:
        task.check(task.judged_graph(graph))
    except InputError as error:
        if name is not None:
            raise
        others = ", ".join(other for other in TASKS if other != DEFAULT)
        one = f"; of one of them as {DEFAULT}@0" if len(graph.outputs) > 1 else ""
        raise InputError(
            f"{error}; say what the outputs mean with --task (in Python task=): {others}{one}"
        ) from None
    return task


def artifact_task(artifact: Artifact, name: str | None = None) -> Task[Any]:
    """The same for an artifact, whose provenance may name its task. InputError as `task_of`."""
    return task_of(artifact.graph, artifact.provenance.get(PROVENANCE) if name is None else name)


def kept_name(name: str | None) -> dict[str, str]:
    """What the provenance of an artifact says of its task: nothing if it is the default."""
    return {} if name in (None, DEFAULT) else {PROVENANCE: str(name)}
