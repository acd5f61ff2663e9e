"""Knowledge distillation (arXiv 1503.02531) from another network, by its logits on the same views of the
images (arXiv 2106.05237)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from subbyte.artifact import load
from subbyte.errors import InputError
from subbyte.execute.torch import executor as torch_executor
from subbyte.importers import import_model
from subbyte.ir import Graph
from subbyte.preprocess import Preprocessing
from subbyte.tasks.classification import class_count
from subbyte.tasks.keypoints import rows


@dataclass(frozen=True, eq=False)
class Teacher:
    """A classifier as a graph, with its numbers on a device."""

    graph: Graph
    preprocessing: Preprocessing
    state: Mapping[str, Tensor]

    def logits(self, x: Tensor, of: Preprocessing) -> Tensor:
        """The first output, float32 [N, classes], of a student's input [N, C, H, W], which `of` describes:
        resized (bilinear) and normalized for the teacher."""
        p = self.preprocessing
        pixels = x.to(torch.float32) * _row(of.std, x) + _row(of.mean, x)
        if pixels.shape[-2:] != (p.height, p.width):
            pixels = F.interpolate(
                pixels, (p.height, p.width), mode="bilinear", align_corners=False, antialias=True
            )
        y = (pixels - _row(p.mean, x)) / _row(p.std, x)
        with torch.no_grad():
            outputs = torch_executor.forward(self.graph, y, self.state, exact=False)
        return rows(outputs[self.graph.outputs[0]])


def _row(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device).view(1, -1, 1, 1)


def make(
    source: str, weights: str | None, student: Preprocessing, classes: int, device: torch.device
) -> Teacher:
    """An artifact of any widths, or the name of a network with weights.

    Raises InputError for one that is no classifier of these classes, or of images with other channels.
    """
    if source.lower().endswith(".subbyte"):
        artifact = load(source)
        graph, preprocessing = artifact.graph, artifact.preprocessing
    else:
        found = import_model(source, weights=weights)
        graph, preprocessing = found.graph, found.preprocessing
    if class_count(graph) != classes:
        raise InputError(f"the teacher {source} knows {class_count(graph)} classes, the student {classes}")
    if preprocessing.channels != student.channels:
        raise InputError(
            f"the teacher {source} takes images of {preprocessing.channels} channels, "
            f"the student of {student.channels}"
        )
    return Teacher(graph, preprocessing, torch_executor.state_of(graph, device))
