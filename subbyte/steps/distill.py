"""Trains the quantized network as a whole to answer what the float network answers.

Knowledge distillation (arXiv 1503.02531) from the float network into its own quantized form, on
unlabelled images. As "Knowledge distillation: A good teacher is patient and consistent" (arXiv
2106.05237) advises, teacher and student see the same random crop of every image, so that a
thousand images do not become few.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph
from subbyte.steps.augment import augmented
from subbyte.steps.context import Context
from subbyte.steps.learned import Learned
from subbyte.steps.train import in_bfloat16, minimize, steps_of
from subbyte.tasks import task_of


def run(context: Context) -> Graph:
    """The quantized graph after training all its layers against the float one; configuration: Training.

    The loss is the task's, over all outputs. Raises InputError if the outputs do not fit the task.
    """
    graph, original, training = context.graph, context.original, context.configuration
    meant = task_of(original, context.task)
    inputs = torch_executor.nchw(context.images)
    learned = Learned(graph, {node.name: node for node in original.nodes})
    teacher, bfloat16 = torch_executor.state_of(original), in_bfloat16(training)

    def loss(chosen: Tensor, generator: torch.Generator) -> Tensor:
        x = augmented(inputs[chosen], generator)
        with torch.no_grad():
            wanted = torch_executor.forward(original, x, teacher)
        made = torch_executor.forward(graph, x, learned.state(), exact=False, bfloat16=bfloat16)
        return meant.distillation_loss(
            [made[name] for name in graph.outputs], [wanted[name] for name in original.outputs]
        )

    generator = torch.Generator().manual_seed(context.seed)
    saved = None if context.work is None else context.work / "distill.pt"
    report = partial(context.progress, f"distill, {steps_of(training, len(inputs))} steps")
    minimize(learned.parameters, loss, len(inputs), training, generator, report, saved)
    return learned.result()
