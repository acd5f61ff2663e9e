"""Runs the float graph on calibration images and records how its values are distributed.

Where ranges are to serve the network's outputs, each value's squared gradient is recorded, too: for
outputs y and standard normal u, E (∂(u·y)/∂x)² = Σ_k (∂y_k/∂x)², so that Σ e² (∂(u·y)/∂x)² estimates what
independent errors e of all x add to |y|², to first order (a Gauss-Newton, or Fisher, diagonal; Hutchinson's
estimator with one u an image).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator

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
#: Memory for all values of the images that run together, and for their gradients.
GRADIENT_BYTES = 1 << 30


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
    graph: Graph, batches: Iterable[np.ndarray], seed: int, progress: Progress, *, weighted: bool = False
) -> dict[str, Histogram]:
    """Histograms by value name of `exposed(graph)`, a float graph, in one pass over `batches`.

    weighted: their weights are squared gradients: of the value itself, but of what the activation function
    makes of it where one follows, since errors are measured behind it (ranges.py).
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
        seen.setdefault(name, Histogram()).add(tensor.detach(), generator)

    run, state, done = exposed(graph), torch_executor.state_of(exposed(graph)), 0
    chunk = images_at_once(run) if weighted else BATCH
    for images in batches:
        for start in range(0, len(images), chunk):
            batch = torch_executor.nchw(images[start : start + chunk])
            visit(graph.input, batch)
            with torch.set_grad_enabled(weighted):
                batch.requires_grad_(weighted)
                made = torch_executor.forward(run, batch, state, visit=visit, keep=weighted)
                if weighted:
                    _weigh(run, graph.values, made, seen, generator)
        done += len(images)
        progress("calibrate", done)
    return seen


def images_at_once(graph: Graph) -> int:
    """How many images' values and gradients fit GRADIENT_BYTES; at least one."""
    elements = sum(math.prod(value.shape) for value in graph.values.values())
    return max(1, min(BATCH, GRADIENT_BYTES // (8 * elements)))


def _weigh(
    graph: Graph,
    known: Container[str],
    made: dict[str, Tensor],
    seen: dict[str, Histogram],
    generator: torch.Generator,
) -> None:
    """Adds the squared gradients of the outputs' random projections to the histograms.

    known: the values that may get a grid of their own; others are read by an activation or a residual only.
    """
    behind = {n.inputs[0]: n.output for n in graph.nodes if n.inputs[0] not in known}
    total = projected((made[name] for name in graph.outputs), generator)
    names = list(made)
    found = torch.autograd.grad(total, [made[name] for name in names], allow_unused=True)
    gradients = dict(zip(names, found, strict=True))
    for name in names:
        gradient = gradients[behind.get(name, name)]
        if gradient is not None:
            seen[name].weigh(made[name].detach(), gradient, generator)


def projected(outputs: Iterable[Tensor], generator: torch.Generator) -> Tensor:
    """Σ u·y of outputs y, in units of their root mean squares, 0-dim; u is standard normal."""
    total = torch.zeros(())
    for output in outputs:
        u = torch.randn(output.shape, generator=generator)
        total = total + (output * u).sum() / output.detach().square().mean().sqrt().clamp(min=1e-30)
    return total
