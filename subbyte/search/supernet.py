"""One set of weights for all networks of a space, and its training by the sandwich rule.

A candidate's weights are slices of the shared ones: the first channels, the middle of kernels, the first
blocks of a stage (slimmable networks, arXiv 1812.08928; Once-for-All, arXiv 1908.09791; BigNAS, arXiv
2003.11142). Kinds of blocks have weights of their own. A candidate is computed by the modules that it has as
a network by itself, on these slices; so both give the same numbers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from subbyte.models.efficientnet import EfficientNet
from subbyte.models.tables import Architecture
from subbyte.quant import Format
from subbyte.quant.format import INT8
from subbyte.search.space import EXPANDING, Candidate, Space
from subbyte.tasks.task import Task
from subbyte.training.network import initialize

#: Networks beside the largest and the smallest that every step trains (k of arXiv 1903.05134).
DRAWN = 2

State = dict[str, Tensor]


class Supernet(nn.Module):
    """float32 [N, 3, H, W] -> [N, outputs] of any candidate of `space`; without one, of the largest. Images
    are of the largest resolution, or in training smaller: then those of candidates shrink with them.

    Its parameters are the shared weights, its buffers the batch norms' statistics of the largest candidate.
    Weights are drawn from torch's generator.
    """

    def __init__(self, space: Space, outputs: int) -> None:
        super().__init__()
        self.space, self.outputs = space, outputs
        with torch.no_grad():
            for candidate in _extremes(space):
                module = standalone(candidate, outputs)
                initialize(module)
                for name, value in module.named_parameters():
                    self._enter(_shared(name, candidate), value)
        module = standalone(space.largest, outputs)
        for name, buffer in module.named_buffers():
            self.register_buffer(_key(name), buffer)
        self._largest_buffers = [name for name, _ in module.named_buffers()]

    def _enter(self, key: str, value: Tensor) -> None:
        """Puts a tensor into the corner of the shared one, which grows as needed."""
        known = self._parameters.get(key)
        shared: Tensor = value.clone() if known is None else known.detach()
        shape = [max(a, b) for a, b in zip(shared.shape, value.shape, strict=True)]
        if shape != list(shared.shape):
            grown = value.new_zeros(shape)
            _slice(grown, shared.shape).copy_(shared)
            shared = grown
        _slice(shared, value.shape).copy_(value)
        self.register_parameter(key, nn.Parameter(shared))

    def forward(self, x: Tensor, candidate: Candidate | None = None) -> Tensor:
        """In training mode with batch norms over x; else only the largest has statistics, and the numbers of
        others mean nothing (see `network_of`)."""
        candidate = candidate or self.space.largest
        skeleton = _skeleton(candidate.architecture, self.outputs).train(self.training)
        state = self.weights(candidate) | self._statistics(candidate, skeleton, x)
        side = round(candidate.resolution * x.shape[-1] / max(self.space.resolution))
        made: Tensor = functional_call(skeleton, state, (resized(x, side),))
        return made

    def weights(self, candidate: Candidate, formats: bool = True) -> State:
        """The candidate's parameters by its own names: slices, if `formats` is True in the stages' formats,
        below 8 bits or sparse, whose gradients reach the shared weights straight through the rounding."""
        found = {}
        for name, value in _skeleton(candidate.architecture, self.outputs).named_parameters():
            part = _slice(self.get_parameter(_shared(name, candidate)), value.shape)
            format = _format(name, candidate)
            if formats and format not in (None, INT8) and value.ndim == 4:
                assert format is not None
                part = part + (rounded(part.detach(), format) - part.detach())
            found[name] = part
        return found

    def _statistics(self, candidate: Candidate, skeleton: nn.Module, x: Tensor) -> State:
        if candidate == self.space.largest:
            return {name: self.get_buffer(_key(name)) for name in self._largest_buffers}
        return {
            name: torch.ones(value.shape, dtype=value.dtype, device=x.device)
            for name, value in skeleton.named_buffers()
        }


def standalone(candidate: Candidate, outputs: int) -> EfficientNet:
    """The candidate as a module of its own, in eval mode."""
    return EfficientNet(candidate.architecture, outputs).eval()


def network_of(
    supernet: Supernet, candidate: Candidate, batches: Iterable[Tensor], formats: bool = True
) -> EfficientNet:
    """The candidate as a module of its own, in eval mode, with copies of the shared weights, and the batch
    norms' statistics of `batches`, float32 [N, 3, H, W] of any size: their mean over the batches. formats:
    weights are rounded to the formats of the stages."""
    module = standalone(candidate, supernet.outputs)
    with torch.no_grad():
        weights = supernet.weights(candidate, formats)
        for name, value in module.named_parameters():
            value.copy_(weights[name])
        norms = [child for child in module.modules() if isinstance(child, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a mean of all batches, not an exponential one
        module.train()
        for x in batches:
            module(resized(x, candidate.resolution))
        for norm in norms:
            norm.momentum = 0.1
    return module.eval()


def resized(x: Tensor, side: int) -> Tensor:
    """Images [N, C, H, W] in a square of that side, by the mean of the area."""
    if x.shape[-2:] == (side, side):
        return x
    return F.interpolate(x, (side, side), mode="bilinear", align_corners=False, antialias=True)


def rounded(weight: Tensor, format: Format) -> Tensor:
    """[O, I, h, w] to the nearest numbers of the format; scales cover the largest weight of each channel.
    A layer of one input a channel (depthwise) stays dense, as in compression."""
    layer = weight.permute(0, 2, 3, 1)  # as a graph has it: patterns lie along the inputs
    if format.pattern.mask is not None and weight.shape[1] > 1:
        keep = torch.from_numpy(format.pattern.mask(layer.numpy())).permute(0, 3, 1, 2)
        weight = weight * keep
    most = (1 << (format.bits - 1)) - 1
    scale = weight.flatten(1).abs().amax(1).clamp_min(1e-12).div(most).view(-1, 1, 1, 1)
    return (weight / scale).round() * scale


class Sandwich:
    """The loss of a step (arXiv 1903.05134): the largest network learns from labels or a teacher, the
    smallest and `drawn` random ones from what the largest answers (in-place distillation). An Objective of
    training.loop. Networks are drawn from torch's generator, which training sets in every step.
    """

    def __init__(self, space: Space, task: Task[Any], drawn: int = DRAWN) -> None:
        self.space, self.task, self.drawn = space, task, drawn

    def __call__(self, network: Callable[..., Tensor], x: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
        """The sum over the networks; `loss` is what training compares answers with."""
        generator = random.Random(int(torch.randint(1 << 62, ())))
        answers = network(x)
        total, wanted = loss(answers), answers.detach()
        for candidate in (self.space.smallest, *(self.space.random(generator) for _ in range(self.drawn))):
            total = total + self.task.distillation_loss([network(x, candidate)], [wanted])
        return total


@lru_cache(maxsize=512)
def _skeleton(architecture: Architecture, outputs: int) -> EfficientNet:
    """The modules without numbers."""
    with torch.device("meta"):
        return EfficientNet(architecture, outputs)


def _key(name: str) -> str:
    """A module's tensors cannot have dots in their names."""
    return name.replace(".", "/")


def _shared(name: str, candidate: Candidate) -> str:
    """The name of the shared tensor of a candidate's parameter: blocks.2.0.conv_pw.weight lies under the kind
    of stage 2."""
    parts = name.split(".")
    if parts[0] == "blocks":
        parts.insert(2, candidate.stages[int(parts[1])].kind)
    return "/".join(parts)


def _format(name: str, candidate: Candidate) -> Format | None:
    """Of the weights of a candidate's parameter, if it is inside of a stage."""
    parts = name.split(".")
    return candidate.stages[int(parts[1])].format if parts[0] == "blocks" else None


def _slice(shared: Tensor, shape: torch.Size) -> Tensor:
    """The first channels, and the middle of kernels."""
    for axis, size in enumerate(shape):
        begin = (shared.shape[axis] - size) // 2 if axis >= 2 else 0
        shared = shared.narrow(axis, begin, size)
    return shared


def _extremes(space: Space) -> Iterator[Candidate]:
    """Networks that together have every tensor of the space at its largest."""
    variants = []
    for i, stage in enumerate(space.stage):
        own = []
        for kind in stage.kind:
            expands = stage.expand if kind in EXPANDING else stage.expand[:1]
            gates = stage.se if kind != "cn" else stage.se[:1]
            own += [
                {f"stage{i}.kind": kind, f"stage{i}.expand": expand, f"stage{i}.se": se}
                for expand in expands
                for se in gates
            ]
        variants.append(own)
    base = {
        name: values[0] if name.endswith((".kind", ".weights", ".skip")) else max(values)
        for name, values in space.lists().items()
    }
    for index in range(max(map(len, variants))):
        changes = {name: v for own in variants for name, v in own[index % len(own)].items()}
        yield space.candidate({**base, **changes})
