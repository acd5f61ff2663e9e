"""Runs the float graph on calibration images and records how its values are distributed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from subbyte.errors import InputError
from subbyte.execute.images import checked
from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph
from subbyte.quantize.histogram import Histogram
from subbyte.quantize.prepare import exposed

Progress = Callable[[str, int], None]

#: Images that run together; more would leave the cache and gain nothing.
BATCH = 16


def regrouped(graph: Graph, calibration: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The images in order, float32 [BATCH, H, W, C], the last batch as large as what is left.

    Raises InputError for arrays that do not fit the graph's input or are not finite, and if there
    is no image at all.
    """
    waiting: list[np.ndarray] = []
    seen = False
    for array in calibration:
        if not isinstance(array, np.ndarray):
            raise InputError(f"calibration must give numpy arrays, got {type(array).__name__}")
        for image in checked(graph, array):
            waiting.append(image)
            if len(waiting) == BATCH:
                seen = True
                yield np.stack(waiting)
                waiting = []
    if waiting:
        yield np.stack(waiting)
    elif not seen:
        raise InputError("there are no calibration images; give at least one, better a few hundred")


def calibrate(
    graph: Graph, batches: Iterable[np.ndarray], seed: int, progress: Progress
) -> dict[str, Histogram]:
    """Histograms by value name of `exposed(graph)`, a float graph, in one pass over `batches`.

    Raises InputError if a value becomes infinite or NaN.
    """
    generator = torch.Generator().manual_seed(seed)
    seen: dict[str, Histogram] = {}

    def visit(name: str, tensor: Tensor) -> None:
        if not torch.isfinite(tensor).all():
            raise InputError(
                f"the network makes NaN or infinity (in {name!r}) on a calibration image; "
                "check its weights and the preprocessing"
            )
        seen.setdefault(name, Histogram()).add(tensor, generator)

    run, state, done = exposed(graph), torch_executor.state_of(exposed(graph)), 0
    with torch.no_grad():
        for images in batches:
            batch = torch_executor.nchw(images)
            visit(graph.input, batch)
            torch_executor.forward(run, batch, state, visit=visit)
            done += len(images)
            progress("calibrate", done)
    return seen
