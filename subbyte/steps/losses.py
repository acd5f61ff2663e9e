"""What a network in training is compared with, and how: one function a loss, and their weighted sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from subbyte.errors import InputError
from subbyte.execute.torch import executor as torch_executor
from subbyte.execute.torch.estimators import STE, estimator
from subbyte.ir import Graph
from subbyte.recipes import BlockRemoval, Distillation, Taught
from subbyte.steps.teacher import Teacher, block_pairs, gate_pairs, real_of, watching
from subbyte.steps.train import in_bfloat16
from subbyte.tasks.task import Task, relative_loss

Values = dict[str, Tensor]
Pairs = Sequence[tuple[Tensor, Tensor]]


class Losses:
    """The weighted sum of all losses that are asked for; nothing is computed or kept for the others.

    Raises InputError for a temperature or labels where the outputs are no class scores, labels that are
    missing or no classes, weights of other outputs, or a teacher whose blocks do not fit.
    """

    def __init__(
        self,
        task: Task[Any],
        asked: Taught,
        student: Graph,
        teacher: Teacher,
        labels: np.ndarray | None = None,
    ) -> None:
        check_task(task, asked)
        check_outputs(student, asked)
        self.task, self.asked, self.student, self.teacher = task, asked, student, teacher
        self.how = STE
        if isinstance(asked, Distillation):
            self.how = estimator(asked.activation_estimator, asked.strength)
        self.bfloat16 = in_bfloat16(asked)
        self.labels = _class_indices(task.judged_graph(student), labels) if asked.labels else None
        named = block_pairs(student, teacher.graph) if asked.features or asked.attention else []
        self.features = named if asked.features else []
        self.attention = [pair for pair in named if _is_map(student, pair[0])] if asked.attention else []
        self.gates = gate_pairs(student, teacher.graph) if asked.gates else []
        self.pairs = list(dict.fromkeys([*self.features, *self.attention, *self.gates]))

    def __call__(
        self,
        graph: Graph,
        state: torch_executor.State,
        x: Tensor,
        chosen: Tensor,
        wanted: Values | None = None,
    ) -> Tensor:
        """The loss of the student `graph`, float32 [], on images x [N, C, H, W], the `chosen` of all.

        graph, state: what it is at present; its values are called as those of `student`. wanted: what
        `answers` gave for these images, if it is known.
        """
        return self._total(*self._both(graph, state, x, wanted), chosen)

    def answers(self, x: Tensor) -> Values:
        """What the teacher makes of images, of what the losses need; nothing where nothing is asked."""
        return self.teacher(x, (name for _, name in self.pairs)) if self.asked.taught else {}

    def held_back(
        self, graph: Graph, state: torch_executor.State, x: Tensor, chosen: Tensor
    ) -> dict[str, float]:
        """The loss, and where there is a teacher the share of images that both answer alike."""
        made, wanted = self._both(graph, state, x)
        found = {"loss": float(self._total(made, wanted, chosen))}
        if wanted:
            answers = (
                self.task.answers([_array(values[name]) for name in self.task.judged(graph.outputs)])
                for values, graph in ((made, self.student), (wanted, self.teacher.graph))
            )
            found["agreement"] = float(self.task.alike(*answers).mean())
        return found

    def _both(
        self, graph: Graph, state: torch_executor.State, x: Tensor, wanted: Values | None = None
    ) -> tuple[Values, Values]:
        """What student and teacher make, as real numbers."""
        wanted = self.answers(x) if wanted is None else wanted
        watched = watching(graph, (name for name, _ in self.pairs))
        found = torch_executor.forward(
            watched, x, state, exact=False, estimator=self.how, bfloat16=self.bfloat16
        )
        return {name: real_of(graph, state, name, array) for name, array in found.items()}, wanted

    def _total(self, made: Values, wanted: Values, chosen: Tensor) -> Tensor:
        asked, outputs = self.asked, [made[name] for name in self.student.outputs]
        total = outputs[0].new_zeros(())
        if asked.logits:
            exact = [wanted[name] for name in self.teacher.graph.outputs]
            total = total + asked.logits * output_loss(
                self.task, outputs, exact, asked.temperature, asked.outputs
            )
        for weight, loss, names in (
            (asked.features, feature_loss, self.features),
            (asked.attention, attention_loss, self.attention),
            (asked.gates, feature_loss, self.gates),
        ):
            if names:
                total = total + weight * loss([(made[m], fitted(wanted[w], made[m])) for m, w in names])
        if self.labels is not None:
            judged = self.task.judged(outputs)
            total = total + asked.labels * self.task.label_loss(judged, self.labels[chosen])
        return total


def check_task(task: Task[Any], asked: Taught) -> None:
    """InputError for options that only class scores have, where the outputs are none."""
    for name, used in (("temperature", asked.temperature != 1.0), ("labels", asked.labels > 0.0)):
        if used and not task.classes:
            raise InputError(f"distill.{name} is for class scores; the network's task is {task.name}")


def check_outputs(graph: Graph, asked: Taught | BlockRemoval) -> None:
    """InputError unless there is a weight for each output, or none."""
    if asked.outputs and len(asked.outputs) != len(graph.outputs):
        raise InputError(
            f"outputs has {len(asked.outputs)} weights; the network has {len(graph.outputs)} outputs"
        )


def output_loss(
    task: Task[Any],
    made: Sequence[Tensor],
    wanted: Sequence[Tensor],
    temperature: float = 1.0,
    weights: Sequence[float] = (),
) -> Tensor:
    """The task's distance of outputs [N, ...] that are divided by the temperature T, times T² (arXiv
    1503.02531: so that gradients do not shrink with it); outputs that it does not judge count as numbers do,
    and the mean of all outputs is taken. With weights, the sum of those of each output, times its weight."""
    own = range(len(made)) if task.outputs is None else task.outputs
    others = [place for place in range(len(made)) if place not in own]
    if weights:
        parts = [([place], weight) for place, weight in enumerate(weights) if weight]
    else:
        parts = [(list(part), len(part) / len(made)) for part in (own, others) if part]
    losses = []
    for places, weight in parts:
        m, y = ([outputs[place] for place in places] for outputs in (made, wanted))
        judged = places[0] in own
        losses.append(weight * (_softened(task, m, y, temperature) if judged else relative_loss(m, y)))
    return sum(losses)  # type: ignore[return-value]


def _softened(
    task: Task[Any], made: Sequence[Tensor], wanted: Sequence[Tensor], temperature: float
) -> Tensor:
    if temperature == 1.0:
        return task.distillation_loss(made, wanted)
    softer = [[y / temperature for y in outputs] for outputs in (made, wanted)]
    return task.distillation_loss(*softer) * temperature**2


def fitted(wanted: Tensor, made: Tensor) -> Tensor:
    """A map of a teacher of larger or smaller images, [N, C, H, W], resized to the student's."""
    if wanted.shape == made.shape:
        return wanted
    return F.interpolate(wanted, made.shape[2:], mode="bilinear", antialias=True)


def feature_loss(pairs: Pairs) -> Tensor:
    """Mean over pairs of Σ (made − wanted)² / Σ wanted², both [N, ...]."""
    return _mean([(m - w).square().sum() / (w.square().sum() + 1e-12) for m, w in pairs])


def attention_loss(pairs: Pairs) -> Tensor:
    """Mean over pairs of maps [N, C, H, W] and over images of |a/‖a‖ − b/‖b‖|², the attention maps a, b
    being sums of squares over channels (arXiv 1612.03928)."""
    return _mean([(_attention(m) - _attention(w)).square().sum(1).mean() for m, w in pairs])


def _array(output: Tensor) -> np.ndarray:
    """float32 [N, ...], channels last."""
    return (output.permute(0, 2, 3, 1) if output.ndim == 4 else output).detach().cpu().numpy()


def _attention(x: Tensor) -> Tensor:
    """[N, C, H, W] to [N, H·W] of length 1."""
    return F.normalize(x.square().mean(1).flatten(1), dim=1)


def _mean(terms: Sequence[Tensor]) -> Tensor:
    return sum(terms[1:], terms[0]) / len(terms)


def _is_map(graph: Graph, name: str) -> bool:
    shape = graph.value(name).shape
    return len(shape) == 3 and shape[0] * shape[1] > 1


def _class_indices(graph: Graph, labels: np.ndarray | None) -> Tensor:
    if labels is None:
        raise InputError("distill.labels needs labels: the class index of each calibration image")
    classes = graph.value(graph.outputs[0]).shape[-1]
    if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
        raise InputError(f"labels must be 0..{classes - 1}, got {labels.min()}..{labels.max()}")
    return torch.from_numpy(labels)
