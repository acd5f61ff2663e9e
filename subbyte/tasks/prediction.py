"""A network's answers to images, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from subbyte.data.decode import read_image
from subbyte.data.samples import Sample, batches, resized, with_resize
from subbyte.errors import InputError
from subbyte.preprocess import Preprocessing
from subbyte.tasks.table import DEFAULT, named
from subbyte.tasks.task import Outputs, as_outputs

#: float32 [N, H, W, C] to float32 [N, ...], or to a sequence of them where the network has several outputs.
Predictor = Callable[[np.ndarray], "np.ndarray | Outputs"]


def predict(
    predictor: Predictor,
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    *,
    task: str = DEFAULT,
    batch: int = 16,
    progress: Callable[[int], None] | None = None,
) -> Any:
    """Runs `predictor` over the images, `batch` at a time, never holding more than one batch.

    Returns the answers of the task: metrics.Predictions for classification. Raises InputError: an unreadable
    image, outputs that are not finite, or none of the task's, or an unknown task.
    """
    chosen, parts, start = named(task), [], 0
    for x in batches(samples, preprocessing, batch, progress):
        chunk = samples[start : start + len(x)]
        frames = np.array([frame(sample, preprocessing) for sample in chunk]) if chosen.places else None
        parts.append(chosen.answers(chosen.judged(as_outputs(predictor(x))), frames))
        start += len(x)
    if not parts:
        raise InputError("there are no images to evaluate")
    return chosen.joined(parts)


def frame(sample: Sample, preprocessing: Preprocessing) -> tuple[float, ...]:
    """Where the network's input lies in the image: its left, top, width and height as shares of the image's,
    and the image's width and height in pixels."""
    way = with_resize(preprocessing, sample.resize)
    size = read_image(sample.path, way.channels).size
    width, height, left, top = resized(size, way)
    return left / width, top / height, way.width / width, way.height / height, *map(float, size)
