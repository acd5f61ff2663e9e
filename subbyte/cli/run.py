"""`subbyte run`: what is in these pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from subbyte.cli.console import show, show_json
from subbyte.cli.options import Artifact_, Isa, Json, Resize, Threads
from subbyte.errors import InputError
from subbyte.evaluate.accuracy import top_classes
from subbyte.evaluate.classes import distinct
from subbyte.evaluate.data import load_picture, with_resize


def run(
    artifact: Artifact_,
    images: Annotated[
        list[Path], typer.Argument(help="Pictures, or .npy files with the network's float32 input.")
    ],
    resize: Resize = None,
    threads: Threads = 1,
    isa: Isa = None,
    json: Json = False,
) -> None:
    """Classify pictures: the five best classes of each."""
    from subbyte.artifact import load
    from subbyte.runtime import Session

    loaded = load(artifact)
    preprocessing = with_resize(loaded.preprocessing, resize)
    session = Session(loaded, threads=threads, isa=isa)
    names = None if loaded.classes is None else distinct(loaded.classes)
    results = []
    for path in images:
        x = read_array(path) if path.suffix == ".npy" else load_picture(path, preprocessing)
        outputs = session.run(x)
        if isinstance(outputs, tuple):
            raise InputError(f"{artifact} has {len(outputs)} outputs: it is no classifier")
        top = top_classes(outputs)
        results += [
            {"file": str(path), "top": _named(*row, names)}
            for row in zip(top.top, top.probability, strict=True)
        ]
    if json:
        show_json(results)
        return
    for result in results:
        show(result["file"], _table(result))


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
