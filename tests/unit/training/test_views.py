"""What training sees is a function of the position alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from subbyte.data.samples import load_image
from subbyte.data.shards import LabelledImages, labelled_images
from subbyte.errors import InputError
from subbyte.preprocess import Preprocessing
from subbyte.training.settings import Settings
from subbyte.training.views import Views, batches, normalized, plain_batches, random_box

WAY = Preprocessing(24, 32, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
SETTINGS = Settings(epochs=2, batch=8, stages=3, randaugment=(0, 9))


def views(images: LabelledImages, settings: Settings = SETTINGS) -> Views:
    return Views(images, WAY, settings, settings.steps(len(images.samples)))


def all_batches(one: Views, begin: int = 0, rank: int = 0, size: int = 1) -> list[tuple[Tensor, Tensor]]:
    return list(batches(one, begin, rank, size, 0, False))


def test_folder_and_shards_give_the_same_batches(folder: Path, shards: Path) -> None:
    one, two = (all_batches(views(labelled_images(root))) for root in (folder, shards))
    assert len(one) == len(two) == 8  # of 7.5
    for (x, labels), (y, others) in zip(one, two, strict=True):
        assert torch.equal(x, y)
        assert torch.equal(labels, others)
    sizes = [tuple(x.shape[-2:]) for x, _ in one]
    assert sizes == [(16, 16)] * 3 + [(16, 24)] * 3 + [(24, 32)] * 2


def test_every_round_sees_each_image_once_in_another_order(folder: Path) -> None:
    images = labelled_images(folder)
    one, count = views(images), len(images.samples)
    rounds = [[one.index(r * count + i) for i in range(count)] for r in range(3)]
    assert all(sorted(each) == list(range(count)) for each in rounds)
    assert rounds[0] != rounds[1] != rounds[2]
    assert [views(images, replace(SETTINGS, seed=1)).index(i) for i in range(count)] != rounds[0]


def test_a_process_has_its_part_of_every_batch_and_may_begin_anywhere(folder: Path) -> None:
    one = views(labelled_images(folder))
    whole = all_batches(one, 2)
    parts = [all_batches(one, 2, rank, 2) for rank in range(2)]
    for (x, labels), *halves in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat([half[0] for half in halves]), x)
        assert torch.equal(torch.cat([half[1] for half in halves]), labels)
    for late, early in zip(whole, all_batches(one)[2:], strict=True):
        assert torch.equal(late[0], early[0])


def test_nothing_random_is_left_when_it_is_turned_off(folder: Path) -> None:
    """Then the views of the last stage are what the network is tested on."""
    images = labelled_images(folder)
    plain = Settings(epochs=1, batch=2, stages=1, randaugment=(0, 0), smallest_crop=1, mirror=False)
    one = views(images, plain)
    x, label = one[3]  # type: ignore[misc]
    sample = images.samples[one.index(3)]
    assert label == sample.label
    expected = torch.from_numpy(load_image(sample.path, WAY)).permute(2, 0, 1)
    assert torch.equal(normalized(x[None], WAY, torch.float32)[0], expected)
    (first, *_) = plain_batches(images, WAY, size=7)
    assert torch.equal(first[one.index(3)], x) if one.index(3) < 7 else len(first) == 7


def test_boxes_lie_inside_and_have_the_area() -> None:
    rng = np.random.default_rng(5)
    for width, height, aspect in ((40, 30, 1.0), (30, 50, 0.6), (400, 2, 1.0), (1, 1, 1.0)):
        for _ in range(200):
            left, top, right, bottom = random_box((width, height), aspect, 0.25, rng)
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
            if width > 10 and height > 10:  # each side is rounded by half a pixel at most
                w, h = right - left, bottom - top
                assert (w + 0.5) * (h + 0.5) >= 0.25 * width * height


def test_grey_images(folder: Path) -> None:
    grey = Preprocessing(16, 16, (0.5,), (0.5,))
    one = Views(labelled_images(folder), grey, SETTINGS, 4)
    x, _ = one[0]  # type: ignore[misc]
    assert x.shape == (1, 8, 8)
    assert x.dtype == torch.uint8


def broken(folder: Path) -> Iterator[str]:
    (folder / "ant").mkdir(parents=True)
    (folder / "ant" / "a.png").write_bytes(b"no image")
    yield str(folder)


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (root,) = broken(tmp_path / "set")
    images = labelled_images(root)
    with pytest.raises(InputError, match=r"cannot read .*a\.png as an image"):
        all_batches(views(images))
    with pytest.raises(InputError, match=r"cannot read .*a\.png as an image"):
        list(plain_batches(images, WAY))
