"""--calibration: the images that a network is made with, with their labels where a step asks for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from subbyte.data.samples import Sample, image_folder, labelled_folder, subset
from subbyte.recipes import Recipe


def trained_on(
    folder: Path, images: int, seed: int, recipes: Iterable[Recipe], classes: Sequence[str] | None = None
) -> list[Sample]:
    """Up to `images` samples of a folder, which have labels if a step of any recipe needs them.

    classes: names that subfolders are matched with. Raises InputError for a folder without images, or without
    the labels that are needed.
    """
    needed = any("labels" in recipe.needs(step) for recipe in recipes for step in recipe.steps)
    every = labelled_folder(folder, classes=classes) if needed else image_folder(folder)
    return subset(every, images, seed)


def labels_of(samples: Sequence[Sample]) -> np.ndarray | None:
    """int64 [N], or None where no sample has a label."""
    if not samples or samples[0].label is None:
        return None
    return np.array([sample.label for sample in samples], np.int64)
