"""The error of candidates with the shared weights, in seconds each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from subbyte.data.samples import Sample
from subbyte.data.shards import LabelledImages
from subbyte.search.space import Candidate
from subbyte.search.supernet import Supernet, network_of
from subbyte.tasks.task import Task, relative_error
from subbyte.training.teacher import Teacher
from subbyte.training.views import normalized, plain_batches

#: Images that the batch norms' statistics are estimated on, and a batch of them; images held back, at most.
STATISTICS, BATCH, MOST_HELD = 512, 64, 2048


@dataclass(frozen=True, eq=False)
class Evaluator:
    """All that the error of a candidate needs, without files: it can be sent to another process.

    statistics, held: uint8 [n, 3, H, W] in batches, by resolution. samples: of the images held back.
    wanted: what a teacher answers to these, float32 [N, outputs]; None: the labels count.
    """

    supernet: Supernet
    task: Task[Any]
    statistics: Mapping[int, Sequence[Tensor]]
    held: Mapping[int, Sequence[Tensor]]
    samples: Sequence[Sample]
    wanted: np.ndarray | None = None

    def error(self, candidate: Candidate) -> float:
        """0 is perfect. Beside labels: 1 - the task's score, such as top-1. Beside a teacher: of class scores
        the share of images with another best class, of other outputs the mean square error over the variance.

        Raises InputError for outputs that are not finite.
        """
        side, space = candidate.resolution, self.supernet.space
        way = space.input(side)
        network = network_of(
            self.supernet,
            candidate,
            [normalized(batch, way, torch.float32) for batch in self.statistics[side]],
        )
        with torch.no_grad():
            made = [network(normalized(batch, way, torch.float32)).numpy() for batch in self.held[side]]
        outputs = np.concatenate(made)
        if self.wanted is None:
            return 1.0 - float(self.task.credit(self.task.answers([outputs]), self.samples).mean())
        if self.task.classes:
            answers = (self.task.answers([each]) for each in (outputs, self.wanted))
            return 1.0 - float(self.task.alike(*answers).mean())
        self.task.answers([outputs])  # raises for what is not finite
        return float(relative_error([outputs], [self.wanted]))


def evaluator(
    supernet: Supernet,
    images: LabelledImages,
    held: LabelledImages,
    task: Task[Any],
    teacher: Teacher | None = None,
) -> Evaluator:
    """Reads the images: STATISTICS of those trained on, and at most MOST_HELD of those held back, both evenly
    spread, at every resolution of the space. teacher: whose answers count in the place of labels.

    Raises InputError for an image that cannot be read.
    """
    some, chosen = _spread(images, STATISTICS), _spread(held, MOST_HELD)
    ways = {side: supernet.space.input(side) for side in supernet.space.resolution}
    statistics = {side: list(plain_batches(some, way, size=BATCH)) for side, way in ways.items()}
    tested = {side: list(plain_batches(chosen, way, size=BATCH)) for side, way in ways.items()}
    wanted = None
    if teacher is not None:
        largest = max(ways)
        answers = (
            teacher.logits(normalized(batch, ways[largest], torch.float32), ways[largest])
            for batch in tested[largest]
        )
        wanted = torch.cat(list(answers)).numpy()
    return Evaluator(supernet, task, statistics, tested, chosen.samples, wanted)


def _spread(images: LabelledImages, most: int) -> LabelledImages:
    count = len(images.samples)
    return images.chosen(np.linspace(0, count - 1, min(count, most)).astype(int).tolist())
