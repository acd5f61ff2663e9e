"""Training a space's shared weights: the trainer of `subbyte train`, with the sandwich rule as objective."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from subbyte.artifact import load
from subbyte.data.shards import LabelledImages
from subbyte.errors import InputError
from subbyte.execute.torch import executor as torch_executor
from subbyte.models import checkpoint
from subbyte.search.space import Space
from subbyte.search.supernet import Sandwich, Supernet
from subbyte.system.folders import make_folder
from subbyte.tasks.task import Task
from subbyte.training.loop import Progress, Training
from subbyte.training.processes import Processes
from subbyte.training.settings import Settings
from subbyte.training.state import NETWORK
from subbyte.training.teacher import Teacher

CPU = torch.device("cpu")


def teacher_of(path: str) -> Teacher:
    """An artifact of any widths whose first output is learned.

    Raises ArtifactError for a file that is none, InputError for one that does not take images of 3 channels.
    """
    artifact = load(path)
    if artifact.preprocessing.channels != 3:
        channels = artifact.preprocessing.channels
        raise InputError(f"the teacher {path} takes images of {channels} channels; spaces have 3")
    return Teacher(artifact.graph, artifact.preprocessing, torch_executor.state_of(artifact.graph))


def trained(
    space: Space,
    outputs: int,
    images: LabelledImages,
    held: LabelledImages | None,
    settings: Settings,
    folder: Path,
    task: Task[Any],
    teacher: Teacher | None = None,
    origin: str = "",
    tell: Callable[[Progress], None] = lambda progress: None,
    workers: int = 0,
) -> Supernet:
    """The shared weights after training, averaged; an interrupted training goes on, a finished one is read.

    images: to train on. held: to measure the largest network on, None for none. folder: made if there is
    none; training.state says what is written there. teacher: whose answers count besides labels, or with
    a weight of 1 in their place. origin: what else it is made from, which must be the same when it goes on.
    Raises what `Training.run` raises, and InputError for a folder that cannot be made.
    """
    make_folder(folder, f"training in {folder}", "choose another --output")
    torch.manual_seed(settings.seed)
    supernet = Supernet(space, outputs)
    made_of = {"space": space.model_dump_json(), "outputs": str(outputs), "teacher": origin}
    way = space.input(max(space.resolution))
    here = Processes(0, 1, CPU)
    Training(
        *(supernet, images, held, way, settings, folder, here, made_of, teacher, workers),
        tell=tell,
        objective=Sandwich(space, task),
        task=task,
    ).run()
    supernet.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    checkpoint.fit(checkpoint.read(folder / NETWORK), supernet, str(folder / NETWORK))
    return supernet.eval()
