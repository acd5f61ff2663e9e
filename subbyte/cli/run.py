"""`subbyte run`: what is in these images."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from subbyte.artifact import load
from subbyte.cli.console import complain, say, show, show_json
from subbyte.cli.options import Artifact_, Isa, Json, Resize, TaskName, Threads
from subbyte.data.classes import distinct
from subbyte.data.samples import Sample, image_folder, load_image, with_resize
from subbyte.errors import InputError
from subbyte.execute.native import Session
from subbyte.preprocess import Preprocessing
from subbyte.tasks import Task, artifact_task
from subbyte.tasks.prediction import frame
from subbyte.tasks.task import as_outputs


def run(
    artifact: Artifact_,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...",
            help="Images, folders of them, or .npy files with the network's float32 input.",
        ),
    ],
    task: TaskName = None,
    resize: Resize = None,
    threads: Threads = 1,
    isa: Isa = None,
    json: Json = False,
) -> None:
    """Classify images: the five best classes of each.

    Of a network with another task, its answers: key points or numbers.
    An image that cannot be read is reported, and the others are run; the exit status is 1 then.
    """
    loaded = load(artifact)
    meant = artifact_task(loaded, task)
    preprocessing = with_resize(loaded.preprocessing, resize)
    session = Session(loaded, threads=threads, isa=isa)
    names = None if loaded.classes is None else distinct(loaded.classes)
    results = []
    failed = False
    for result in _results(images, session, meant, names, preprocessing):
        failed |= "error" in result
        if json:
            results.append(result)
        elif "error" in result:
            complain(result["error"])
        else:
            say(result["file"])
            table = Table(show_header=False, box=None)
            for line in meant.lines(result):
                table.add_row(*line)
            show(table)
    if json:
        show_json(results)
    if failed:
        sys.exit(1)


def _results(
    images: Sequence[Path],
    session: Session,
    task: Task[Any],
    names: Sequence[str] | None,
    preprocessing: Preprocessing,
) -> Iterator[dict[str, Any]]:
    """Per image its file and either its answer or an error."""
    for given in images:
        try:
            files = [sample.path for sample in image_folder(given)] if given.is_dir() else [given]
        except InputError as error:
            yield {"file": str(given), "error": str(error)}
            continue
        for path in files:
            try:
                x = read_array(path) if path.suffix == ".npy" else load_image(path, preprocessing)
                frames = None
                if task.places and path.suffix != ".npy":
                    frames = np.array([frame(Sample(path), preprocessing)])
                outputs = as_outputs(session.run(x))
                answers = task.answers(task.judged(outputs), frames)
            except InputError as error:
                yield {"file": str(path), "error": str(error)}
                continue
            for i in range(len(outputs[0])):
                yield {"file": str(path), **task.described(answers, i, names)}


def read_array(path: Path) -> np.ndarray:
    """The array of a .npy file. InputError if there is none; nothing in it is executed."""
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
        return array
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read {path} as an array: {error}") from None
