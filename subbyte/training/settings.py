"""What training does, as plain data, and what follows from it for every step.

Progressive learning (EfficientNetV2, arXiv 2104.00298, section 4): training is cut into stages of equal
length. From the first to the last, the images grow, and with them, linearly, the rate of dropout, the
magnitude of RandAugment and the strength of mixup: small images need little regularization, large ones more.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from subbyte.errors import InputError
from subbyte.training.randaugment import MOST

OPTIMIZERS = ("adamw", "rmsprop")
SCHEDULES = ("cosine", "exponential")
PRECISIONS = ("float32", "bfloat16")
#: Sides of the images of all stages but the last are multiples of it, in pixels.
MULTIPLE = 8
#: What the exponential schedule ends at, of its first rate: 0.97 every 2.4 of 350 epochs (arXiv 2104.00298).
END = 0.97 ** (350 / 2.4)

Span = tuple[float, float]  # of a quantity in the first and in the last stage


@dataclass(frozen=True)
class Stage:
    """One stage: number, from 0; scale of the sides of its images, of the last stage's; rate of dropout;
    magnitude of RandAugment; mixup's alpha."""

    number: int
    scale: float
    dropout: float
    randaugment: float
    mixup: float

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the images in pixels, where they are these in the last stage."""
        return _side(height, self.scale), _side(width, self.scale)


def _side(last: int, scale: float) -> int:
    return min(last, max(MULTIPLE, round(last * scale / MULTIPLE) * MULTIPLE)) if scale < 1.0 else last


@dataclass(frozen=True)
class Settings:
    """How to train.

    epochs: how often each image is seen. batch: images a step, of all processes together. stages: how many.
    first_size: sides of the images in the first stage, of 1 in the last. dropout, randaugment, mixup: in the
    first and the last stage; the magnitude of RandAugment is of 10 (arXiv 1909.13719), mixup draws from
    Beta(alpha, alpha) (arXiv 1710.09412). stochastic_depth: how often the last residual block is left out;
    earlier ones linearly less. smallest_crop: of an image's area, 1 for no crops. mirror: half of the images.
    label_smoothing: arXiv 1512.00567. optimizer: adamw (arXiv 1711.05101) or rmsprop (the paper's).
    learning_rate: the highest; None for 0.002, with rmsprop for 0.256 of a batch of 4096 and in proportion.
    weight_decay: of kernels only; None for 0.05, with rmsprop for 0.00001. warmup: epochs, at most half of
    all, in which the rate rises from 0. schedule: how it falls. average: decay of the exponential moving
    average of weights and buffers, at most (1 + step) / (10 + step). clip: largest norm of a gradient, None
    for any. teacher_weight: share of the loss that is the teacher's.

    Raises InputError for a number that is out of its range.
    """

    epochs: float = 30.0
    batch: int = 64
    stages: int = 4
    first_size: float = 0.5
    dropout: Span = (0.1, 0.2)
    randaugment: Span = (3.0, 9.0)
    mixup: Span = (0.0, 0.2)
    stochastic_depth: float = 0.1
    smallest_crop: float = 0.35
    mirror: bool = True
    label_smoothing: float = 0.1
    optimizer: str = "adamw"
    learning_rate: float | None = None
    weight_decay: float | None = None
    warmup: float = 2.0
    schedule: str = "cosine"
    average: float = 0.9999
    clip: float | None = None
    teacher_weight: float = 0.5
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("schedule", self.schedule, SCHEDULES)
        _one_of("precision", self.precision, PRECISIONS)
        _within("epochs", self.epochs, 0.0, 1e6, open_below=True)
        _within("batch", self.batch, 2, 1 << 20)
        _within("stages", self.stages, 1, 64)
        _within("first size", self.first_size, 0.0, 1.0, open_below=True)
        for name, highest in (("dropout", 0.99), ("randaugment", MOST), ("mixup", 100.0)):
            for value in getattr(self, name):
                _within(name, value, 0.0, highest)
        _within("stochastic depth", self.stochastic_depth, 0.0, 0.99)
        _within("smallest crop", self.smallest_crop, 0.0, 1.0, open_below=True)
        _within("label smoothing", self.label_smoothing, 0.0, 0.99)
        _within("learning rate", self.rate, 0.0, 1e3, open_below=True)
        _within("weight decay", self.decay, 0.0, 1e3)
        _within("warmup", self.warmup, 0.0, 1e6)
        _within("average", self.average, 0.0, 1.0)
        _within("teacher weight", self.teacher_weight, 0.0, 1.0)
        _within("seed", self.seed, 0, 1 << 62)
        if self.clip is not None:
            _within("clip", self.clip, 0.0, 1e9, open_below=True)

    @property
    def rate(self) -> float:
        """The highest learning rate."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 0.002 if self.optimizer == "adamw" else 0.256 * self.batch / 4096

    @property
    def decay(self) -> float:
        """The weight decay."""
        if self.weight_decay is not None:
            return self.weight_decay
        return 0.05 if self.optimizer == "adamw" else 1e-5

    def steps(self, images: int) -> int:
        """How many steps training on so many images takes."""
        return max(1, round(self.epochs * images / self.batch))

    def stage(self, step: int, steps: int) -> Stage:
        """The stage that a step, from 0, of so many lies in."""
        number = step * self.stages // steps
        share = number / (self.stages - 1) if self.stages > 1 else 1.0

        def at(span: Span) -> float:
            return span[0] + (span[1] - span[0]) * share

        scale = at((self.first_size, 1.0))
        return Stage(number, scale, at(self.dropout), at(self.randaugment), at(self.mixup))

    def rate_at(self, step: int, steps: int) -> float:
        """The learning rate of a step, from 0, of so many."""
        warm = min(steps // 2, round(self.warmup * steps / self.epochs))
        if step < warm:
            return self.rate * (step + 1) / (warm + 1)
        share = (step - warm) / max(1, steps - warm)
        if self.schedule == "cosine":
            return self.rate * 0.5 * (1.0 + math.cos(math.pi * share))
        return float(self.rate * END**share)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"the {name} must be one of {', '.join(allowed)}, got {value!r}")


def _within(name: str, value: float, low: float, high: float, open_below: bool = False) -> None:
    if not (low <= value <= high) or (open_below and value == low):  # NaN fails the first
        least = f"more than {low:g}" if open_below else f"{low:g} or more"
        raise InputError(f"the {name} of training must be {least} and at most {high:g}, got {value:g}")
