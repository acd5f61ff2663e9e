"""Shape or texture: images with the shape of one thing and the texture of another.

Geirhos et al., "ImageNet-trained CNNs are biased towards texture; increasing shape bias improves accuracy
and robustness", ICLR 2019 (arXiv:1811.12231). A folder holds the images, a `labels.csv` with the columns
`file,shape,texture` (names of categories), and one JSON file that maps every category to the indices of
its ImageNet classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from subbyte.data.samples import Sample, batches, listed_file, read_csv
from subbyte.errors import InputError
from subbyte.metrics.accuracy import Predictor, probabilities
from subbyte.preprocess import Preprocessing
from subbyte.system.text_file import read_json

MAX_BYTES = 1 << 24  # of the categories


@dataclass(frozen=True)
class CueConflict:
    """Images whose shape and texture differ, and the classes of each category."""

    samples: Sequence[Sample]
    shape: Sequence[str]
    texture: Sequence[str]
    categories: Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class ShapeBias:
    """Counts over n images: decisions for the shape, for the texture; the rest is neither."""

    n: int
    shape: int
    texture: int

    @property
    def bias(self) -> float | None:
        """Share of shape among the decisions for either cue; None if there is none."""
        either = self.shape + self.texture
        return self.shape / either if either else None

    @property
    def accuracy(self) -> float:
        """Share of images that are named by their shape, 0..1."""
        return self.shape / self.n

    def to_json(self) -> dict[str, Any]:
        """JSON values: counts, and shares 0..1."""
        return {
            "images": self.n,
            "shape": self.shape,
            "texture": self.texture,
            "shape_bias": self.bias,
            "accuracy": self.accuracy,
        }


def read_cue_conflict(folder: Path | str, num_classes: int | None = None) -> CueConflict:
    """The folder's images with different cues; those whose cues agree are left out, as in the paper.

    Raises InputError: a missing or unreadable file, one outside the folder, an unknown category, a class
    >= num_classes (None: any).
    """
    folder = Path(folder)
    mappings = sorted(folder.glob("*.json"))
    if not (folder / "labels.csv").is_file() or len(mappings) != 1:
        raise InputError(f"{folder} needs a labels.csv (file,shape,texture) and one JSON file of categories")
    categories = _categories(mappings[0], num_classes)
    table = folder / "labels.csv"
    rows = [_cue_row(table, line, row) for line, row in read_csv(table)]
    unknown = sorted({cue for _, *cues in rows for cue in cues} - set(categories))
    if unknown:
        raise InputError(f"{mappings[0]} does not have the category {unknown[0]!r} of labels.csv")
    rows = [row for row in rows if row[1] != row[2]]
    if not rows:
        raise InputError(f"{folder} has no image whose shape and texture differ")
    files, shapes, textures = zip(*rows, strict=True)
    return CueConflict([Sample(file) for file in files], shapes, textures, categories)


def _cue_row(table: Path, line: int, row: Mapping[str, str | None]) -> tuple[Path, str, str]:
    file, shape, texture = (row.get(column) for column in ("file", "shape", "texture"))
    if not file or not shape or not texture:
        raise InputError(f"{table} must have the columns file, shape and texture, filled in every line")
    return listed_file(table, line, file), shape, texture


def _categories(path: Path, num_classes: int | None) -> dict[str, list[int]]:
    read = read_json("categories from", path, MAX_BYTES)
    whole = isinstance(read, dict) and all(
        isinstance(v, list) and v and all(type(i) is int and i >= 0 for i in v) for v in read.values()
    )
    if not whole:
        raise InputError(f"{path} must map each category to a list of class indices")
    largest = max((i for indices in read.values() for i in indices), default=0)
    if num_classes is not None and largest >= num_classes:
        raise InputError(f"{path} names class {largest}; the network has {num_classes}: it needs ImageNet's")
    return read


def shape_bias(
    predictor: Predictor,
    data: CueConflict,
    preprocessing: Preprocessing,
    *,
    batch: int = 16,
    progress: Callable[[int], None] | None = None,
) -> ShapeBias:
    """Runs `predictor` over the images. An image's category is the one with the highest mean
    probability of its classes."""
    names, decisions = list(data.categories), []
    for x in batches(data.samples, preprocessing, batch, progress):
        p = probabilities(predictor(x))
        means = np.stack([p[:, list(data.categories[name])].mean(axis=1) for name in names], axis=1)
        decisions += [names[i] for i in means.argmax(axis=1)]
    shape = sum(a == b for a, b in zip(decisions, data.shape, strict=True))
    texture = sum(a == b for a, b in zip(decisions, data.texture, strict=True))
    return ShapeBias(len(decisions), shape, texture)
