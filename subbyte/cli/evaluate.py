"""`subbyte evaluate`: how often an artifact is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from subbyte.artifact import Artifact, load
from subbyte.cli.console import percent, progress, show, show_json
from subbyte.cli.options import Artifact_, Data, Isa, Json, Limit, Resize, Threads
from subbyte.errors import InputError
from subbyte.evaluate.accuracy import Predictions, Predictor, agreement, predict, score
from subbyte.evaluate.data import Sample, labelled_folder, subset, with_resize
from subbyte.ir import Graph
from subbyte.runtime import Session


def evaluate(
    artifact: Artifact_,
    data: Data,
    reference: Annotated[
        Path | None, typer.Option(help="Another artifact, to count agreement of the best class with.")
    ] = None,
    resize: Resize = None,
    limit: Limit = None,
    threads: Threads = 1,
    isa: Isa = None,
    json: Json = False,
) -> None:
    """Accuracy on labelled pictures: top-1, top-5, and the 95 % interval of top-1."""
    loaded = load(artifact)
    other = load(reference) if reference else None
    samples = labelled(loaded, data, limit)
    predictions, session = predictions_of(loaded, samples, resize, threads, isa, str(artifact))
    result: dict[str, Any] = {"artifact": str(artifact), "data": str(data), "isa": session.isa}
    result |= {"threads": threads} | counts(predictions, samples)
    if other is not None:
        answers, _ = predictions_of(other, samples, resize, threads, isa, str(reference))
        result |= {"reference": str(reference), "agreement": agreement(predictions, answers)}
    show_json(result) if json else show(_table(result))


def class_count(graph: Graph) -> int:
    """The number of classes of a classifier. InputError if the graph is not one."""
    shapes = [graph.value(name).shape for name in graph.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 1:
        raise InputError(f"the network's outputs have the shapes {shapes}: it is no classifier")
    return shapes[0][0]


def labelled(artifact: Artifact, folder: Path, limit: int | None) -> list[Sample]:
    """The pictures of a folder, labels checked against the artifact's classes."""
    return subset(labelled_folder(folder, class_count(artifact.graph), artifact.classes), limit)


def predictions_of(
    artifact: Artifact,
    samples: Sequence[Sample],
    resize: str | None,
    threads: int,
    isa: str | None,
    name: str,
) -> tuple[Predictions, Session]:
    """What the artifact says about the pictures, with a progress bar, and the session that said it."""
    preprocessing = with_resize(artifact.preprocessing, resize)
    session = Session(artifact, threads=threads, isa=isa)
    with progress(f"evaluating {Path(name).name}", len(samples)) as done:
        return predict(logits_of(session.run), samples, preprocessing, progress=done), session


def logits_of(run: Callable[[np.ndarray], Any]) -> Predictor:
    """A session's or peer's `run` for a network with one output, as `class_count` has made sure."""

    def logits(x: np.ndarray) -> np.ndarray:
        outputs = run(x)
        assert isinstance(outputs, np.ndarray)
        return outputs

    return logits


def counts(predictions: Predictions, samples: Sequence[Sample]) -> dict[str, Any]:
    """The accuracy as JSON values."""
    result = score(predictions, samples)
    return {
        "pictures": result.n,
        "top1": result.top1,
        "top5": result.top5,
        "top1_rate": result.top1_rate,
        "top5_rate": result.top5_rate,
        "top1_interval_95": list(result.interval()),
    }


def _table(result: dict[str, Any]) -> Table:
    n = result["pictures"]
    low, high = result["top1_interval_95"]
    table = Table(show_header=False, box=None)
    table.add_row("pictures", str(n))
    table.add_row("top-1", f"{result['top1']} of {n}  {percent(result['top1_rate'])}")
    table.add_row("", f"95 % interval {percent(low)} – {percent(high)}")
    table.add_row("top-5", f"{result['top5']} of {n}  {percent(result['top5_rate'])}")
    if "agreement" in result:
        share = percent(result["agreement"] / n)
        table.add_row("same best class", f"{result['agreement']} of {n}  {share}  as {result['reference']}")
    table.add_row("engine", f"{result['isa']}, {result['threads']} thread(s)")
    return table
