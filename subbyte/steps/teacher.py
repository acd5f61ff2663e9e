"""What the network in training is taught by: the float network, or another artifact."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from subbyte.artifact import load
from subbyte.artifact.digest import graph_digest
from subbyte.errors import InputError
from subbyte.execute.native import Session
from subbyte.execute.torch import executor as torch_executor
from subbyte.ir import Graph
from subbyte.passes import squeeze_excite
from subbyte.preprocess import Preprocessing
from subbyte.steps.blocks import blocks
from subbyte.tasks.task import as_outputs, shapes


@dataclass(frozen=True)
class Teacher:
    """A network whose numbers are wanted. state: its numbers. other: whether it is not the float network.

    It reads the images that the student reads, resized if its input is of another size; so they have to be
    normalized alike (check_normalization). On a CPU its outputs come from the engine, which needs two thirds
    of torch's time for EfficientNetV2-B0 in float32; other values need torch.
    """

    graph: Graph
    state: torch_executor.State
    other: bool = False

    def __call__(self, x: Tensor, values: Iterable[str] = ()) -> dict[str, Tensor]:
        """Real numbers of the outputs and of further values, for images float32 [N, C, H, W]; no gradient."""
        height, width, _ = self.graph.value(self.graph.input).shape
        watched = watching(self.graph, values)
        with torch.no_grad():
            if x.shape[2:] != (height, width):
                x = F.interpolate(x, (height, width), mode="bilinear", antialias=True)
            if x.device.type == "cpu" and watched.outputs == self.graph.outputs:
                return self._outputs(x)
            found = torch_executor.forward(watched, x, self.state, exact=not self.other)
            return {name: real_of(self.graph, self.state, name, found[name]) for name in watched.outputs}

    @cached_property
    def _session(self) -> Session:
        return Session(self.graph, threads=torch.get_num_threads())

    def _outputs(self, x: Tensor) -> dict[str, Tensor]:
        outputs = as_outputs(self._session.run(x.permute(0, 2, 3, 1).contiguous().numpy()))
        real = (torch_executor.nchw(output) for output in outputs)
        return dict(zip(self.graph.outputs, real, strict=True))

    @property
    def digest(self) -> str:
        """Tells teachers apart; empty for the float network."""
        return graph_digest(self.graph)[:16] if self.other else ""


def teacher_of(original: Graph, path: str | None) -> Teacher:
    """The float network `original`, or the artifact at `path`.

    Raises ArtifactError if that is none, InputError if its images or outputs have other shapes.
    """
    if path is None:
        return Teacher(original, torch_executor.state_of(original))
    graph = load(path).graph
    if shapes(graph) != shapes(original):
        raise InputError(
            f"the teacher {path} has outputs of the shapes {shapes(graph)}, the network {shapes(original)}; "
            "choose a teacher of the same task and classes"
        )
    inputs = [other.value(other.input).shape for other in (graph, original)]
    if len(inputs[0]) != len(inputs[1]) or inputs[0][-1] != inputs[1][-1] or len(inputs[0]) != 3:
        raise InputError(f"the teacher {path} reads images of the shape {inputs[0]}, the network {inputs[1]}")
    return Teacher(graph, torch_executor.state_of(graph), other=True)


def check_normalization(path: str, own: Preprocessing) -> None:
    """InputError unless the teacher at `path` reads images that are normalized as the network's own."""
    other = load(path).preprocessing
    if (other.mean, other.std) != (own.mean, own.std):
        raise InputError(
            f"the teacher {path} reads images normalized by mean {other.mean} and deviation {other.std}, the "
            f"network by {own.mean} and {own.std}; choose a teacher of the same normalization"
        )


def watching(graph: Graph, values: Iterable[str]) -> Graph:
    """The graph with these values as outputs too."""
    return replace(graph, outputs=tuple(dict.fromkeys((*graph.outputs, *values))))


def real_of(graph: Graph, state: torch_executor.State, name: str, array: Tensor) -> Tensor:
    """A value as real numbers."""
    q = graph.value(name).q
    return array if q is None else (array - q.zero_point) * state[f"{name}:scale"]


def block_pairs(student: Graph, teacher: Graph) -> list[tuple[str, str]]:
    """The names of what the blocks of both make, in order. InputError unless they have as many channels, and
    are maps or vectors alike."""
    return _paired(student, teacher, *([b.output for b in blocks(g)][:-1] for g in (student, teacher)))


def gate_pairs(student: Graph, teacher: Graph) -> list[tuple[str, str]]:
    """The same of the gates of squeeze-and-excitation. InputError also if there are none."""
    made = [[g.node(b.gate).inputs[1] for b in squeeze_excite(g)] for g in (student, teacher)]
    if not made[0]:
        raise InputError("the network has no squeeze-and-excitation gates to learn from; set gates to 0")
    return _paired(student, teacher, *made)


def _paired(
    student: Graph, teacher: Graph, made: Sequence[str], wanted: Sequence[str]
) -> list[tuple[str, str]]:
    sizes = [
        [graph.value(name).shape for name in names] for graph, names in ((student, made), (teacher, wanted))
    ]
    if [(len(s), s[-1]) for s in sizes[0]] != [(len(s), s[-1]) for s in sizes[1]]:
        raise InputError(
            "the blocks of teacher and network make values of different shapes; learn from logits alone"
        )
    return list(zip(made, wanted, strict=True))
