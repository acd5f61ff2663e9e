"""Accuracy on corrupted images: classifiers on the very same ones, made on the fly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from subbyte.data.decode import read_image
from subbyte.data.samples import Sample, fit, normalize, with_resize
from subbyte.errors import InputError
from subbyte.metrics.accuracy import Predictor, top_classes
from subbyte.metrics.statistics import mean_interval
from subbyte.preprocess import Preprocessing

BATCH = 16
#: A classifier and how it wants its images.
Contender = tuple[Predictor, Preprocessing]


@dataclass(frozen=True, eq=False)
class Robustness:
    """One classifier on n images.

    clean: bool [n], where it is right on the image as it is. right: bool [n, families, severities].
    """

    families: tuple[str, ...]
    severities: tuple[int, ...]
    clean: np.ndarray
    right: np.ndarray

    @property
    def grid(self) -> np.ndarray:
        """Accuracy by family and severity, float [families, severities], 0..1."""
        return self.right.mean(axis=0)

    @property
    def mean(self) -> float:
        """Mean corruption accuracy: over all families and severities, 0..1."""
        return float(self.right.mean())

    @property
    def relative(self) -> float | None:
        """`mean` as a share of the accuracy on the clean images; None if that is 0."""
        clean = float(self.clean.mean())
        return self.mean / clean if clean else None

    def interval(self) -> tuple[float, float]:
        """95 % interval of `mean` over draws of images, of which each counts once."""
        return mean_interval(self.right.mean(axis=(1, 2)), 0, 1)

    def change(self, reference: Robustness) -> tuple[float, tuple[float, float]]:
        """`mean` minus the reference's on the same images, and its 95 % interval."""
        difference = (self.right.astype(float) - reference.right).mean(axis=(1, 2))
        return float(difference.mean()), mean_interval(difference, -1, 1)

    def to_json(self) -> dict[str, Any]:
        """JSON values: counts of right answers, and shares 0..1."""
        counts = self.right.sum(axis=0)
        return {
            "images": len(self.clean),
            "severities": list(self.severities),
            "clean_top1": int(self.clean.sum()),
            "top1": {family: counts[i].tolist() for i, family in enumerate(self.families)},
            "mean_accuracy": self.mean,
            "mean_accuracy_interval_95": list(self.interval()),
            "relative_to_clean": self.relative,
        }


def measure_robustness(
    contenders: Sequence[Contender],
    samples: Sequence[Sample],
    families: Sequence[str],
    severities: Sequence[int],
    *,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> list[Robustness]:
    """Every contender on every image, clean and corrupted in every way.

    Images are corrupted at the network's input size, before normalization; contenders that fit
    images alike see the same ones. progress: told the images done, of len(samples).
    Raises InputError: no or unlabelled images, contenders that do not take RGB, an unreadable image, an
    unknown family or severity.
    """
    if not samples or any(sample.label is None for sample in samples):
        raise InputError("robustness needs labelled images")
    check_corruptible(preprocessing for _, preprocessing in contenders)
    shape = (len(samples), 1 + len(families) * len(severities))
    answers = [np.zeros(shape, bool) for _ in contenders]
    for i, sample in enumerate(samples):
        made: dict[Preprocessing, list[np.ndarray]] = {}
        for (predictor, preprocessing), right in zip(contenders, answers, strict=True):
            way = replace(
                with_resize(preprocessing, sample.resize), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
            )
            if way not in made:
                made[way] = list(_versions(sample, way, families, severities, seed))
            right[i] = _best(predictor, made[way], preprocessing) == sample.label
        if progress is not None:
            progress(i + 1)
    cells = (len(samples), len(families), len(severities))
    return [
        Robustness(tuple(families), tuple(severities), right[:, 0], right[:, 1:].reshape(cells))
        for right in answers
    ]


def check_corruptible(ways: Iterable[Preprocessing]) -> None:
    """InputError unless all are of RGB images: snow, fog and the others are defined for colours."""
    from subbyte.data.corruptions import CHANNELS

    for way in ways:
        if way.channels != CHANNELS:
            raise InputError(
                f"corruptions are defined for RGB images, the network takes {way.channels} channel(s); "
                "leave --corruptions out"
            )


def parse_severities(text: str) -> tuple[int, ...]:
    """ "1,3,5" to severities, each once. InputError unless all are whole numbers from 1 to 5."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part in {"1", "2", "3", "4", "5"} for part in parts):
        raise InputError(f"severities are whole numbers from 1 to 5 like 1,3,5, got {text!r}")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _versions(
    sample: Sample, way: Preprocessing, families: Sequence[str], severities: Sequence[int], seed: int
) -> Iterator[np.ndarray]:
    """The image, uint8 [H, W, 3], then all its corruptions, family by family."""
    from subbyte.data.corruptions import corrupt

    image = np.asarray(fit(read_image(sample.path, way.channels), way))
    yield image
    for family in families:
        for severity in severities:
            yield corrupt(image, family, severity, seed)


def _best(predictor: Predictor, images: Sequence[np.ndarray], preprocessing: Preprocessing) -> np.ndarray:
    """int [n]: the best class of each image, uint8 [H, W, 3]."""
    parts = []
    for start in range(0, len(images), BATCH):
        x = np.stack([normalize(p, preprocessing) for p in images[start : start + BATCH]])
        parts.append(top_classes(predictor(x)).top[:, 0])
    return np.concatenate(parts)
