"""Trains the float network to answer what a teacher answers, before anything is rounded.

For networks that had channels, blocks or a part of their input's size taken away: what is left has to be
trained by the numbers of what was there (knowledge distillation, arXiv 1503.02531), by those of a larger
network, or by both in turn. Batch norms are folded, as everywhere: what trains are kernels and biases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph, is_weighted
from subbyte.quantize.calibrate import BATCH
from subbyte.quantize.prepare import exposed, pre_value
from subbyte.recipes import Retraining
from subbyte.steps.augment import augmented
from subbyte.steps.context import Context
from subbyte.steps.held_back import mean_over, split
from subbyte.steps.hooks import Hooks
from subbyte.steps.learned import BIAS_UNIT
from subbyte.steps.losses import Losses, check_outputs, check_task
from subbyte.steps.status import teller
from subbyte.steps.teacher import teacher_of
from subbyte.steps.train import minimize, steps_of
from subbyte.tasks import task_of


def check(original: Graph, asked: Retraining, task: str | None) -> None:
    """Raises what `run` would raise of its options: InputError, or ArtifactError of the teacher."""
    check_task(task_of(original, task), asked)
    check_outputs(original, asked)
    teacher_of(original, asked.teacher)


def run(context: Context) -> Graph:
    """The float graph, trained; configuration: Retraining.

    Raises InputError if the outputs do not fit the task, or as Losses and teacher_of do.
    """
    graph, asked = context.original, context.configuration
    inputs = torch_executor.nchw(context.images)
    meant, teacher = task_of(graph, context.task), teacher_of(context.network, asked.teacher)
    learned = Floats(graph, inputs[:BATCH])
    losses = Losses(meant, asked, graph, teacher, context.labels)
    kept, held = split(len(inputs), asked)
    views = Views(len(inputs), asked, context.seed, losses.answers)

    def loss(chosen: Tensor, generator: torch.Generator) -> Tensor:
        images = kept[chosen]
        x, wanted = views(inputs[images], images, generator)
        return losses(graph, learned.state(), x, images, wanted)

    def measure(part: Tensor) -> dict[str, float]:
        return losses.held_back(graph, learned.state(), inputs[part], part)

    name = "-".join(filter(None, ("retrain", teacher.digest)))
    minimize(
        learned.parameters,
        loss,
        len(kept),
        asked,
        torch.Generator().manual_seed(context.seed),
        partial(context.progress, f"retrain, {steps_of(asked, len(kept))} steps"),
        None if context.work is None else context.work / f"{name}.pt",
        hooks=(views,),
        check=mean_over(held, asked.batch, measure),
        tell=teller(context.progress, "retrain"),
    )
    return learned.result()


class Views(Hooks):
    """Random crops of images and the teacher's answers to them; of `count` images asked.views crops each,
    which are drawn once, or ever new ones if that is 0.

    The crop `view` of an image follows from the seed, the image and the view alone; the answers are part of
    the state of training, since sums of other batches end in other digits.
    """

    def __init__(
        self, count: int, asked: Retraining, seed: int, answers: Callable[[Tensor], dict[str, Tensor]]
    ) -> None:
        self.each, self.crop, self.mix = asked.views, asked.crop, asked.mix
        self.seed, self.answers = seed, answers
        self.known = torch.zeros(count * self.each, dtype=torch.bool)
        self.kept: dict[str, Tensor] = {}

    def __call__(
        self, x: Tensor, images: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Crops of the images x [N, C, H, W], which have these indices, and the answers to them; None: it is
        for the losses to ask."""
        if not self.each:
            return augmented(x, generator, self.crop, self.mix), None
        places = images * self.each + torch.randint(self.each, (len(images),), generator=generator)
        own = [torch.Generator().manual_seed(self.seed + int(place)) for place in places]
        crops = torch.cat([augmented(x[i : i + 1], g, self.crop) for i, g in enumerate(own)])
        crops = crops.contiguous(memory_format=torch.channels_last)
        new = ~self.known[places]
        if new.any():
            for name, answer in self.answers(crops[new]).items():
                if name not in self.kept:
                    self.kept[name] = answer.new_zeros(len(self.known), *answer.shape[1:])
                self.kept[name][places[new]] = answer
            self.known[places] = True
        return crops, {name: kept[places] for name, kept in self.kept.items()}

    def state(self) -> dict[str, Any]:
        """Which answers are known, and what they are."""
        return {"known": self.known, "kept": self.kept}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` gave."""
        self.known, self.kept = state["known"], dict(state["kept"])


class Floats:
    """The trainable form of a float graph: kernels relative to their root mean square, "weight", and what
    biases move by, in BIAS_UNIT of the range of what their layer makes of some images, "bias"."""

    def __init__(self, graph: Graph, images: Tensor) -> None:
        self.graph = graph
        self.fixed = torch_executor.state_of(graph, images.device)
        self.layers = [node for node in graph.nodes if is_weighted(node)]
        self.unit = {n.name: float(self._weight(n.name).square().mean().sqrt()) + 1e-12 for n in self.layers}
        self.span: dict[str, float] = {}
        makes = {pre_value(node): node.name for node in self.layers}

        def see(value: str, made: Tensor) -> None:
            if value in makes:
                self.span[makes[value]] = BIAS_UNIT * float(made.max() - made.min()) + 1e-12

        with torch.no_grad():
            torch_executor.forward(exposed(graph), images, self.fixed, visit=see)
        weights = {name: (self._weight(name) / unit).contiguous() for name, unit in self.unit.items()}
        biases = {name: torch.zeros_like(self.fixed[f"{name}:bias"]) for name in self.unit}
        self.parameters = {"weight": weights, "bias": biases}
        for named in self.parameters.values():
            for parameter in named.values():
                parameter.requires_grad_()

    def _weight(self, name: str) -> Tensor:
        return self.fixed[f"{name}:weight"]

    def state(self) -> torch_executor.State:
        """What torch_executor.forward computes the graph with: differentiable functions of the parameters."""
        state = dict(self.fixed)
        for name, unit in self.unit.items():
            state[f"{name}:weight"] = self.parameters["weight"][name] * unit
            state[f"{name}:bias"] = (
                self.fixed[f"{name}:bias"] + self.parameters["bias"][name] * self.span[name]
            )
        return state

    def result(self) -> Graph:
        """The graph with the numbers of the moment."""
        with torch.no_grad():
            state = self.state()
        nodes = []
        for node in self.graph.nodes:
            if node.name in self.unit:
                weight, bias = state[f"{node.name}:weight"], state[f"{node.name}:bias"]
                weight = weight.permute(0, 2, 3, 1) if weight.ndim == 4 else weight
                trained = {"weight": _array(weight), "bias": _array(bias)}
                node = node.with_(params={**node.params, **trained})
            nodes.append(node)
        return replace(self.graph, nodes=tuple(nodes))


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float32)
