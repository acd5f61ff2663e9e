"""Images that nothing of a compression sees, so that what it did can be said of images in general."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

#: Every so many images one is held back; of fewer than LEAST none, for there would be nothing to say.
EVERY, LEAST = 5, 10


def held_back(images: Sequence[T]) -> tuple[list[T], list[T]]:
    """The images to work with, and every fifth, which is held back; both in order."""
    if len(images) < LEAST:
        return list(images), []
    used = [image for i, image in enumerate(images) if i % EVERY != EVERY - 1]
    return used, list(images[EVERY - 1 :: EVERY])
