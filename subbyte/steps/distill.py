"""Trains the quantized network as a whole to answer what a teacher answers, by default the float network.

Knowledge distillation (arXiv 1503.02531) from the float network into its own quantized form, on
unlabelled images. As "Knowledge distillation: A good teacher is patient and consistent" (arXiv
2106.05237) advises, teacher and student see the same random crop of every image, mixed with another
if asked, so that a thousand images do not become few. Losses, what is learned and how are options:
recipes.Distillation.
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
from subbyte.steps.held_back import mean_over, split
from subbyte.steps.hooks import Constant
from subbyte.steps.learned import Learned
from subbyte.steps.limits import limits, weight_bits
from subbyte.steps.losses import Losses, check_outputs, check_task
from subbyte.steps.schedule import Schedule
from subbyte.steps.status import teller
from subbyte.steps.teacher import teacher_of
from subbyte.steps.train import minimize, steps_of
from subbyte.tasks import task_of


def check(original: Graph, asked: Distillation, task: str | None) -> None:
    """Raises what `run` would raise of its options: InputError, or ArtifactError of the teacher."""
    check_task(task_of(original, task), asked)
    check_outputs(original, asked)
    teacher_of(original, asked.teacher)


def run(context: Context) -> Graph:
    """The quantized graph after training all its layers; configuration: Distillation.

    Raises InputError if the outputs do not fit the task, or as Losses and teacher_of do.
    """
    graph, original, asked = context.graph, context.original, context.configuration
    exact = context.teacher
    inputs = torch_executor.nchw(context.images)
    learned = Learned(graph, {node.name: node for node in original.nodes}, asked=asked)
    meant, teacher = task_of(original, context.task), teacher_of(context.network, asked.teacher)
    losses = Losses(meant, asked, graph, teacher, context.labels)
    schedule = Schedule(learned, asked)
    kept, held = split(len(inputs), asked)

    def loss(chosen: Tensor, generator: torch.Generator) -> Tensor:
        images = kept[chosen]
        x = augmented(inputs[images], generator, asked.crop, asked.mix)
        state = learned.state(generator=generator)
        found = losses(learned.present, state, x, images)
        schedule.heard(found)
        return found + learned.penalty(schedule.progress)

    def measure(part: Tensor) -> dict[str, float]:
        return losses.held_back(learned.present, learned.state(), inputs[part], part)

    generator = torch.Generator().manual_seed(context.seed)
    name = "-".join(filter(None, ("distill", teacher.digest)))
    saved = None if context.work is None else context.work / f"{name}.pt"
    report = partial(context.progress, f"distill, {steps_of(asked, len(kept))} steps")
    minimize(
        learned.parameters,
        loss,
        len(kept),
        asked,
        generator,
        report,
        saved,
        hooks=(schedule, Constant(bits=weight_bits(learned))),
        check=mean_over(held, asked.batch, measure),
        tell=teller(context.progress, "distill"),
        limits=limits(learned),
    )
    result = learned.result()
    if asked.bias_correction:
        return correct_biases(result, exact, fewer(exact, context.images), context.progress)
    return result
