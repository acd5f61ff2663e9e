"""Trains the quantized network as a whole to answer what the float network answers.

Knowledge distillation (arXiv 1503.02531) from the float network into its own quantized form, on
unlabelled images. As "Knowledge distillation: A good teacher is patient and consistent" (arXiv
2106.05237) advises, teacher and student see the same random crop of every image, so that a
thousand images do not become few.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph
from subbyte.quantize.calibrate import Progress
from subbyte.recipes import Training
from subbyte.steps.augment import augmented
from subbyte.steps.learned import Learned
from subbyte.steps.train import minimize, steps_of
from subbyte.tasks import task_of


def distill(
    graph: Graph,
    original: Graph,
    images: np.ndarray,
    training: Training,
    seed: int,
    progress: Progress,
    work: Path | None = None,
    task: str | None = None,
) -> Graph:
    """The quantized `graph` after training all its layers against `original`, the float graph.

    images: float32 [N, H, W, C]. task: whose loss it is, of all outputs; None: found from the graph.
    work: a folder that keeps the state of training; it goes on from there.
    Raises InputError if the outputs do not fit the task.
    """
    meant = task_of(original, task)
    inputs = torch_executor.nchw(images)
    learned = Learned(graph, {node.name: node for node in original.nodes})
    teacher = torch_executor.state_of(original)

    def loss(chosen: Tensor, generator: torch.Generator) -> Tensor:
        x = augmented(inputs[chosen], generator)
        with torch.no_grad():
            wanted = torch_executor.forward(original, x, teacher)
        made = torch_executor.forward(graph, x, learned.state(), exact=False)
        return meant.distillation_loss(
            [made[name] for name in graph.outputs], [wanted[name] for name in original.outputs]
        )

    generator = torch.Generator().manual_seed(seed)
    saved = None if work is None else work / "distill.pt"
    report = partial(progress, f"distill, {steps_of(training, len(inputs))} steps")
    minimize(learned.parameters, loss, len(inputs), training, generator, report, saved)
    return learned.result()
