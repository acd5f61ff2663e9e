"""Trains the quantized network as a whole to answer what the float network answers.

Knowledge distillation (arXiv 1503.02531) from the float network into its own quantized form, on
unlabelled images. As "Knowledge distillation: A good teacher is patient and consistent" (arXiv
2106.05237) advises, teacher and student see the same random crop of every image, so that a
thousand images do not become few.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph
from subbyte.steps.augment import augmented
from subbyte.steps.context import Context
from subbyte.steps.held_back import mean_over, split
from subbyte.steps.hooks import Constant
from subbyte.steps.learned import Learned
from subbyte.steps.limits import limits, weight_bits
from subbyte.steps.status import teller
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
    kept, held = split(len(inputs), training)

    def outputs(x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        with torch.no_grad():
            wanted = torch_executor.forward(original, x, teacher)
        made = torch_executor.forward(graph, x, learned.state(), exact=False, bfloat16=bfloat16)
        return [made[name] for name in graph.outputs], [wanted[name] for name in original.outputs]

    def loss(chosen: Tensor, generator: torch.Generator) -> Tensor:
        return meant.distillation_loss(*outputs(augmented(inputs[kept[chosen]], generator)))

    def measure(part: Tensor) -> dict[str, float]:
        made, wanted = outputs(inputs[part])
        alike = meant.alike(meant.answers(_arrays(made)), meant.answers(_arrays(wanted)))
        return {"loss": float(meant.distillation_loss(made, wanted)), "agreement": float(alike.mean())}

    generator = torch.Generator().manual_seed(context.seed)
    saved = None if context.work is None else context.work / "distill.pt"
    report = partial(context.progress, f"distill, {steps_of(training, len(kept))} steps")
    minimize(
        learned.parameters,
        loss,
        len(kept),
        training,
        generator,
        report,
        saved,
        hooks=(Constant(bits=weight_bits(learned)),),
        check=mean_over(held, training.batch, measure),
        tell=teller(context.progress, "distill"),
        limits=limits(learned),
    )
    return learned.result()


def _arrays(outputs: list[Tensor]) -> list[np.ndarray]:
    """float32 [N, ...], channels last."""
    return [(y.permute(0, 2, 3, 1) if y.ndim == 4 else y).detach().numpy() for y in outputs]
