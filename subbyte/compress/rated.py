"""A compact file of a given size: the rate of bits a weight that it leaves room for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from subbyte.allocate.budget import Budget
from subbyte.analysis.degradation import Meter
from subbyte.artifact import Artifact
from subbyte.compress.budgeted import PENDING, Measured, check_size, divided, with_record
from subbyte.compress.job import Job
from subbyte.device import artifact_bytes
from subbyte.errors import InputError
from subbyte.quant import QTensor
from subbyte.quant.format import INT8
from subbyte.quantize.calibrate import BATCH
from subbyte.recipes import Recipe, Training
from subbyte.recipes.recipe import RATES

#: The share of a file that is left free where weights are trained, which changes how many bits they take.
RESERVE = 0.02
#: How often weights that are not trained are rounded anew, a little coarser, if the file is too large: what
#: else is in it depends on the images, too.
ATTEMPTS = 3


def within_size(
    job: Job, recipe: Recipe, budget: Budget, calibration: Iterable[np.ndarray], labels: np.ndarray | None
) -> Artifact:
    """The finished artifact, in a file of at most `budget.size` bytes; every fifth image is held back.

    recipe: one with weights of range "rate", whose rate does not count. The provenance says under "held_back"
    how well the network agrees with float32 on the images that nothing else has seen. Raises InputError for
    budgets of other kinds, and for a size that no rate keeps.
    """
    if budget.size is None or replace(budget, size=None).given:
        raise InputError(f"the recipe {recipe.name!r} keeps a size and no other budget; give --size alone")
    given = divided(job, recipe, calibration, labels)
    meter = Meter(job.graph, given.judged_on, task=job.task)
    rate = rate_for(job, recipe, budget.size, given.images[:BATCH])
    for attempt in range(1, ATTEMPTS + 1):
        artifact = job.compressed(_at(recipe, rate), [given.images], given.labels)
        found = Measured(meter.of(artifact.graph), len(given.judged_on), given.apart)
        artifact = with_record(artifact, found)
        size = artifact_bytes(artifact)
        if size <= budget.size or attempt == ATTEMPTS or _trained(recipe):  # which took long enough
            break
        rate = round(rate - 8.0 * (size - budget.size) / max(_rated(artifact), 1) - 0.01, 2)
    check_size(size, budget.size)
    return artifact


def rate_for(job: Job, recipe: Recipe, size: int, images: np.ndarray) -> float:
    """The bits of a weight, to a hundredth, that a file of so many bytes leaves room for.

    What else is in the file is counted by compressing on a few images, without the recipe's steps; once more
    at the rate that this gives, on which biases depend a little. Raises InputError if no rate fits.
    """
    room, rate = size * (1.0 - RESERVE * _trained(recipe)), recipe.weights.rate
    pending = Measured(PENDING, len(images), held_back=True)
    for _ in range(2):
        plain = _at(recipe, rate).model_copy(update={"steps": ()})
        artifact = with_record(job.compressed(plain, [images], None), pending)
        count = max(_rated(artifact), 1)
        others = artifact_bytes(artifact) - count * rate / 8.0
        left = 8.0 * (room - others) / count
        if left < RATES[0]:
            least = int((others + count * RATES[0] / 8.0) * size / room) + 1
            raise InputError(
                f"a file of {size} bytes leaves {max(left, 0.0):.2f} bits a weight; allow {least} or more"
            )
        rate = min(int(100.0 * left) / 100.0, RATES[1])
    return rate


def _at(recipe: Recipe, rate: float) -> Recipe:
    return recipe.model_copy(update={"weights": recipe.weights.model_copy(update={"rate": rate})})


def _rated(artifact: Artifact) -> int:
    """How many weights have the rate."""
    weights = [node.params.get("weight") for node in artifact.graph.nodes]
    return sum(w.codes.size for w in weights if isinstance(w, QTensor) and w.format == INT8)


def _trained(recipe: Recipe) -> bool:
    """Whether any step moves weights."""
    configurations = [recipe.configuration(step) for step in recipe.steps]
    return any(isinstance(found, Training) and found.weight > 0.0 for found in configurations)
