"""What a network sees of an image: a turned square of it, resampled.

Bilinear, as MediaPipe samples. Where a pixel of the input covers two or more of the image along a side, the
image is first averaged over as many: that bounds the work by the size of the input, whatever the image's, and
leaves no aliasing, which MediaPipe has there.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from subbyte.errors import InputError
from subbyte.hands.region import INPUT, Region, from_landmarks


def crop(
    image: np.ndarray | Image.Image, keypoints: np.ndarray, size: int = INPUT
) -> tuple[np.ndarray, Region]:
    """What a landmark network is given of a hand whose landmarks are roughly known.

    image: uint8 [H, W, 3], RGB, or an image of PIL. keypoints: [21, 2 or more], pixels. Gives float32 [size,
    size, 3] in 0..1, and the square that it shows, whose `to_image` turns points found there into points of
    the image. Raises InputError of a bad image or bad points.
    """
    region = from_landmarks(keypoints, size)
    return warp(pixels(image), region), region


def pixels(image: np.ndarray | Image.Image) -> np.ndarray:
    """uint8 [H, W, 3]. InputError if the array is no such image, or is empty."""
    array = np.asarray(image.convert("RGB")) if isinstance(image, Image.Image) else image
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise InputError("an image must be uint8 [height, width, 3]")
    if array.size == 0:
        raise InputError("an image must have at least one pixel")
    return array


def warp(image: np.ndarray, region: Region, black: bool = False) -> np.ndarray:
    """The region of an image uint8 [H, W, 3], as float32 [size, size, 3] in 0..1.

    Outside the image is black, or else what its nearest pixel is.
    """
    factor = int(region.side / region.size)
    if factor > 1:
        image, region = _reduced(image, region, factor)
    low, high = _around(region)
    part = _window(image, low, high, black)
    (xx, xy), (yx, yy) = axes = region.axes
    # PIL's coordinates count from the outer edge of the first pixel, and the output's from the centre of its
    # own
    x, y = region.to_image(np.zeros(2)) - low + 0.5 - axes.sum(axis=0) / 2
    seen = Image.fromarray(part).transform(
        (region.size, region.size),
        Image.Transform.AFFINE,
        (xx, yx, x, xy, yy, y),
        Image.Resampling.BILINEAR,
    )
    scaled: np.ndarray = np.divide(np.asarray(seen), np.float32(255), dtype=np.float32)
    return scaled


def _around(region: Region) -> tuple[np.ndarray, np.ndarray]:
    """The first and last but one x and y, int64, of the pixels that a region is interpolated from."""
    ends = np.array([0, region.size])
    corners = region.to_image(np.stack(np.meshgrid(ends, ends), axis=-1).reshape(4, 2))
    return np.floor(corners.min(axis=0)).astype(int) - 1, np.ceil(corners.max(axis=0)).astype(int) + 2


def _reduced(image: np.ndarray, region: Region, factor: int) -> tuple[np.ndarray, Region]:
    """The means of factor x factor pixels of what an image has of a region, at least one, and the region
    there."""
    sides = np.array(image.shape[1::-1])
    low, high = _around(region)
    low = np.clip(low, 0, sides - 1)
    high = np.clip(high, low + 1, sides)
    part = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
    means = np.asarray(Image.fromarray(part).reduce(min(factor, max(part.shape))))
    x, y = (np.array([region.x, region.y]) - low + 0.5) / factor - 0.5
    return means, replace(region, x=float(x), y=float(y), side=region.side / factor)


def _window(image: np.ndarray, low: np.ndarray, high: np.ndarray, black: bool) -> np.ndarray:
    """The pixels from `low` to `high`, excluded; outside the image black, or else their nearest ones."""
    height, width = image.shape[:2]
    left, right, *columns = _span(int(low[0]), int(high[0]), width)
    top, bottom, *rows = _span(int(low[1]), int(high[1]), height)
    part = np.ascontiguousarray(image[top:bottom, left:right])
    if black and ((high <= 0).any() or low[0] >= width or low[1] >= height):
        part = np.zeros_like(part)  # nothing of the image
    if any(columns + rows):
        part = np.pad(part, (rows, columns, (0, 0)), "constant" if black else "edge")
    return part


def _span(low: int, high: int, side: int) -> tuple[int, int, int, int]:
    """The first index from `low` to `high` within 0..side, the end behind the last, and how many are before
    and behind them; one of the ends where none is within."""
    count = high - low
    first = min(max(low, 0), side - 1)
    end = max(min(high, side), first + 1)
    before = min(max(-low, 0), count - 1)
    return first, end, before, count - (end - first) - before
