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
from subbyte.cli.measure import class_count
from subbyte.cli.options import Artifact_, Isa, Json, Resize, Threads
from subbyte.data.classes import distinct
from subbyte.data.samples import image_folder, load_image, with_resize
from subbyte.errors import InputError
from subbyte.execute.native import Session
from subbyte.metrics.accuracy import top_classes
from subbyte.preprocess import Preprocessing


def run(
    artifact: Artifact_,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...",
            help="Images, folders of them, or .npy files with the network's float32 input.",
        ),
    ],
    resize: Resize = None,
    threads: Threads = 1,
    isa: Isa = None,
    json: Json = False,
) -> None:
    """Classify images: the five best classes of each.

    An image that cannot be read is reported, and the others are classified; the exit status is 1 then.
    """
    loaded = load(artifact)
    class_count(loaded.graph)
    preprocessing = with_resize(loaded.preprocessing, resize)
    session = Session(loaded, threads=threads, isa=isa)
    names = None if loaded.classes is None else distinct(loaded.classes)
    results = []
    failed = False
    for result in _results(images, session, names, preprocessing):
        failed |= "error" in result
        if json:
            results.append(result)
        elif "error" in result:
            complain(result["error"])
        else:
            say(result["file"])
            show(_table(result))
    if json:
        show_json(results)
    if failed:
        sys.exit(1)


def _results(
    images: Sequence[Path], session: Session, names: Sequence[str] | None, preprocessing: Preprocessing
) -> Iterator[dict[str, Any]]:
    """Per image its file and either its best classes or an error."""
    for given in images:
        try:
            files = [sample.path for sample in image_folder(given)] if given.is_dir() else [given]
        except InputError as error:
            yield {"file": str(given), "error": str(error)}
            continue
        for path in files:
            try:
                x = read_array(path) if path.suffix == ".npy" else load_image(path, preprocessing)
                top = top_classes(np.asarray(session.run(x)))
            except InputError as error:
                yield {"file": str(path), "error": str(error)}
                continue
            for row in zip(top.top, top.probability, strict=True):
                yield {"file": str(path), "top": _named(*row, names)}


def read_array(path: Path) -> np.ndarray:
    """The array of a .npy file. InputError if there is none; nothing in it is executed."""
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read {path} as an array: {error}") from None


def _named(top: np.ndarray, probability: np.ndarray, classes: Sequence[str] | None) -> list[dict[str, Any]]:
    return [
        {"class": int(i), "name": classes[i] if classes else f"class {i}", "probability": float(p)}
        for i, p in zip(top, probability, strict=True)
    ]


def _table(result: dict[str, Any]) -> Table:
    table = Table(show_header=False, box=None)
    for row in result["top"]:
        table.add_row(f"{100 * row['probability']:6.2f} %", row["name"])
    return table
