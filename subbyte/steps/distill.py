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
from torch.nn import functional as F

from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph
from subbyte.steps.augment import augmented
from subbyte.steps.context import Context
from subbyte.steps.learned import Learned
from subbyte.steps.train import minimize, steps_of


def run(context: Context) -> Graph:
    """The quantized graph after training all its layers against the float one; configuration: Training.

    The loss is the Kullback-Leibler divergence of the softmax of the first output if that is a vector, and
    the mean squared error over the variance otherwise.
    """
    graph, original, training = context.graph, context.original, context.configuration
    inputs = torch_executor.nchw(context.images)
    learned = Learned(graph, {node.name: node for node in original.nodes})
    teacher = torch_executor.state_of(original)

    def loss(chosen: Tensor, generator: torch.Generator) -> Tensor:
        x = augmented(inputs[chosen], generator)
        with torch.no_grad():
            wanted = torch_executor.forward(original, x, teacher)
        made = torch_executor.forward(graph, x, learned.state(), exact=False)
        return divergence(made[graph.outputs[0]], wanted[original.outputs[0]])

    generator = torch.Generator().manual_seed(context.seed)
    saved = None if context.work is None else context.work / "distill.pt"
    report = partial(context.progress, f"distill, {steps_of(training, len(inputs))} steps")
    minimize(learned.parameters, loss, len(inputs), training, generator, report, saved)
    return learned.result()


def divergence(made: Tensor, wanted: Tensor) -> Tensor:
    """KL(softmax(wanted) || softmax(made)), mean over images, for [N, C]; else relative squares."""
    if made.ndim == 2:
        return F.kl_div(made.log_softmax(1), wanted.log_softmax(1), reduction="batchmean", log_target=True)
    return (made - wanted).square().mean() / (wanted.var() + 1e-12)
