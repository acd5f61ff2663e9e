"""Random views of images, each a function of its place in the order of training alone.

The images come in rounds, each a random permutation of all; position p is the p-th image of training.
Everything random about it follows from (seed, p): which process computes it, how many share the work, and
where training was interrupted make no difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from subbyte.data.samples import FILTERS, fit
from subbyte.data.shards import LabelledImages
from subbyte.errors import SubbyteError
from subbyte.preprocess import Preprocessing
from subbyte.training.randaugment import Colour, randaugment
from subbyte.training.settings import Settings, Stage

ORDER, VIEW, PAIR, STEP = range(4)  # what is drawn with a generator of its own
ASPECT = math.log(4 / 3)  # most and least of a crop, over the input's (arXiv 1409.4842)
TRIES = 10  # at a crop that fits, before the whole image is taken

Batch: TypeAlias = "tuple[Tensor, Tensor] | SubbyteError"


def generator(seed: int, kind: int, number: int) -> np.random.Generator:
    """Of its own for everything that is drawn."""
    return np.random.default_rng((seed, kind, number))


@lru_cache(maxsize=2)
def _order(seed: int, round_: int, count: int) -> np.ndarray:
    return generator(seed, ORDER, round_).permutation(count)


class Views(Dataset[Batch]):
    """position -> (uint8 [C, H, W], label), or the error that its file raised: in another process it would
    lose its words."""

    def __init__(
        self, images: LabelledImages, preprocessing: Preprocessing, settings: Settings, steps: int
    ) -> None:
        self.images, self.preprocessing, self.settings, self.steps = images, preprocessing, settings, steps

    def index(self, position: int) -> int:
        """Which image is at this position of the order of training."""
        count = len(self.images.samples)
        return int(_order(self.settings.seed, position // count, count)[position % count])

    def __getitem__(self, position: int) -> Batch:
        index = self.index(position)
        try:
            image = self.images.read(index, self.preprocessing.channels)
        except SubbyteError as error:
            return error
        stage = self.settings.stage(position // self.settings.batch, self.steps)
        rng = generator(self.settings.seed, VIEW, position)
        label = self.images.samples[index].label
        assert isinstance(label, int)
        return _tensor(self._view(image, stage, rng)), torch.tensor(label)

    def _view(self, image: Image.Image, stage: Stage, rng: np.random.Generator) -> Image.Image:
        p = self.preprocessing
        height, width = stage.size(p.height, p.width)
        if self.settings.smallest_crop < 1.0:
            aspect = image.width / image.height if p.crop_mode == "squash" else width / height
            box = random_box(image.size, aspect, self.settings.smallest_crop, rng)
            image = image.resize((width, height), FILTERS[p.interpolation], box)
        else:
            image = fit(image, resized_input(p, height, width))
        if self.settings.mirror and rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return randaugment(image, stage.randaugment, _fill(p), rng)


def _tensor(image: Image.Image) -> Tensor:
    """uint8 [C, H, W]."""
    pixels = np.array(image)
    return torch.from_numpy(pixels[..., None] if pixels.ndim == 2 else pixels).permute(2, 0, 1)


def resized_input(p: Preprocessing, height: int, width: int) -> Preprocessing:
    """The same way to an input of another size."""
    return Preprocessing(height, width, p.mean, p.std, p.interpolation, p.crop_fraction, p.crop_mode)


def _fill(p: Preprocessing) -> Colour:
    """The mean colour, of 8 bits."""
    return tuple(min(255, max(0, round(255 * mean))) for mean in p.mean)


def random_box(
    size: tuple[int, int], aspect: float, smallest: float, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a crop that has `smallest` to all of the area of an image of `size`
    (width, height), and about that aspect (width over height); of the whole image if ten crops did not
    fit."""
    width, height = size
    for _ in range(TRIES):
        area = rng.uniform(smallest, 1.0) * width * height
        ratio = aspect * math.exp(rng.uniform(-ASPECT, ASPECT))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    return 0, 0, width, height


class _Positions(Sampler[list[int]]):
    """The positions of each step from `begin` on, of one of `size` processes: a contiguous part of the
    batch."""

    def __init__(self, batch: int, begin: int, steps: int, rank: int, size: int) -> None:
        self.batch, self.begin, self.steps = batch, begin, steps
        self.rank, self.share = rank, batch // size

    def __len__(self) -> int:
        return self.steps - self.begin

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.begin, self.steps):
            first = step * self.batch + self.rank * self.share
            yield list(range(first, first + self.share))


def _collated(views: Sequence[Batch]) -> Batch:
    pairs = []
    for view in views:
        if isinstance(view, SubbyteError):
            return view
        pairs.append(view)
    return torch.stack([pixels for pixels, _ in pairs]), torch.stack([label for _, label in pairs])


def batches(
    views: Views, begin: int, rank: int, size: int, workers: int, pinned: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each step from `begin` on, this process's share: uint8 [n, C, H, W] and int64 [n].

    workers: processes that decode, 0 for this one. Raises InputError for an image that cannot be read.
    """
    sampler = _Positions(views.settings.batch, begin, views.steps, rank, size)
    loader: DataLoader[Batch] = DataLoader(
        views, batch_sampler=sampler, num_workers=workers, collate_fn=_collated, pin_memory=pinned
    )
    for batch in loader:
        if isinstance(batch, SubbyteError):
            raise batch
        yield batch[0], batch[1]


def normalized(pixels: Tensor, preprocessing: Preprocessing, dtype: torch.dtype) -> Tensor:
    """(pixel / 255 - mean) / std of uint8 [N, C, H, W], channels last, with the rounding of
    `data.normalize`."""
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=pixels.device).view(1, -1, 1, 1)
        for values in (preprocessing.mean, preprocessing.std)
    )
    x = (pixels.to(torch.float32) / 255 - mean) / std
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


class _Plain(Dataset[Batch]):
    """index -> (uint8 [C, H, W], label) as in tests."""

    def __init__(self, images: LabelledImages, preprocessing: Preprocessing) -> None:
        self.images, self.preprocessing = images, preprocessing

    def __len__(self) -> int:
        return len(self.images.samples)

    def __getitem__(self, index: int) -> Batch:
        try:
            image = fit(self.images.read(index, self.preprocessing.channels), self.preprocessing)
        except SubbyteError as error:
            return error
        return _tensor(image), torch.tensor(0)


def plain_batches(
    images: LabelledImages, preprocessing: Preprocessing, workers: int = 0, size: int = 64
) -> Iterator[Tensor]:
    """uint8 [n, C, H, W] of all images in order, preprocessed as in tests.

    Raises InputError for an image that cannot be read.
    """
    loader: DataLoader[Batch] = DataLoader(
        _Plain(images, preprocessing), size, num_workers=workers, collate_fn=_collated
    )
    for batch in loader:
        if isinstance(batch, SubbyteError):
            raise batch
        yield batch[0]
