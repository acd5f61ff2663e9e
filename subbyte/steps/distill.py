"""Trains the quantized network as a whole to answer what a teacher answers, by default the float network.

Knowledge distillation (arXiv 1503.02531) from the float network into its own quantized form, on
unlabelled images. As "Knowledge distillation: A good teacher is patient and consistent" (arXiv
2106.05237) advises, teacher and student see the same random crop of every image, so that a
thousand images do not become few. Losses, what is learned and how are options: recipes.Distillation.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph
from subbyte.recipes import Distillation
from subbyte.steps.augment import augmented
from subbyte.steps.bias_correction import correct_biases, fewer
from subbyte.steps.context import Context
from subbyte.steps.learned import Learned
from subbyte.steps.losses import Losses, check_task
from subbyte.steps.schedule import Schedule
from subbyte.steps.teacher import teacher_of
from subbyte.steps.train import minimize, steps_of
from subbyte.tasks import task_of


def check(original: Graph, asked: Distillation, task: str | None) -> None:
    """Raises what `run` would raise of its options: InputError, or ArtifactError of the teacher."""
    check_task(task_of(original, task), asked)
    teacher_of(original, asked.teacher)


def run(context: Context) -> Graph:
    """The quantized graph after training all its layers; configuration: Distillation.

    Raises InputError if the outputs do not fit the task, or as Losses and teacher_of do.
    """
    graph, original, asked = context.graph, context.original, context.configuration
    inputs = torch_executor.nchw(context.images)
    learned = Learned(graph, {node.name: node for node in original.nodes}, asked=asked)
    teacher = teacher_of(original, asked.teacher)
    losses = Losses(task_of(original, context.task), asked, graph, teacher, context.labels)

    schedule = Schedule(learned, asked)

    def loss(chosen: Tensor, generator: torch.Generator) -> Tensor:
        x = augmented(inputs[chosen], generator)
        state = learned.state(generator=generator)
        found = losses(learned.present, state, x, chosen)
        schedule.heard(found)
        return found + learned.penalty(schedule.progress)

    generator = torch.Generator().manual_seed(context.seed)
    name = "-".join(filter(None, ("distill", teacher.digest)))
    saved = None if context.work is None else context.work / f"{name}.pt"
    report = partial(context.progress, f"distill, {steps_of(asked, len(inputs))} steps")
    minimize(learned.parameters, loss, len(inputs), asked, generator, report, saved, hooks=(schedule,))
    result = learned.result()
    if asked.bias_correction:
        return correct_biases(result, original, fewer(original, context.images), context.progress)
    return result
