"""RandAugment (arXiv 1909.13719): so many random operations in a row, all of one magnitude.

The fourteen operations are Pillow's. The magnitude is of 10, as in the paper's table for ImageNet, and may
be larger; at 0 nothing changes but for autocontrast, equalize and identity, which have none.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

COUNT = 2  # operations in a row, in all experiments of arXiv 2104.00298
MOST = 30.0  # the largest magnitude: everything is beyond recognition
BILINEAR = Image.Resampling.BILINEAR

Colour = tuple[int, ...]
#: An image, a share of 1 or more with a random sign, and what fills the pixels that come from outside.
Operation = Callable[[Image.Image, float, Colour], Image.Image]


def randaugment(image: Image.Image, magnitude: float, fill: Colour, rng: np.random.Generator) -> Image.Image:
    """The image after COUNT operations; grey, RGB or RGBA in, the same out. Magnitude 0: as it is."""
    if not magnitude:
        return image
    for _ in range(COUNT):
        operation = OPERATIONS[rng.integers(len(OPERATIONS))]
        sign = 1.0 if rng.random() < 0.5 else -1.0
        image = operation(image, sign * magnitude / 10.0, fill)
    return image


def _affine(image: Image.Image, fill: Colour, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, BILINEAR, fillcolor=fill)


def _on_colours(change: Callable[[Image.Image], Image.Image], image: Image.Image) -> Image.Image:
    """What changes colours, with transparency kept as it is."""
    if image.mode != "RGBA":
        return change(image)
    changed = change(image.convert("RGB"))
    changed.putalpha(image.getchannel("A"))
    return changed


def _identity(image: Image.Image, m: float, fill: Colour) -> Image.Image:
    return image


def _autocontrast(image: Image.Image, m: float, fill: Colour) -> Image.Image:
    return _on_colours(ImageOps.autocontrast, image)


def _equalize(image: Image.Image, m: float, fill: Colour) -> Image.Image:
    return _on_colours(ImageOps.equalize, image)


def _rotate(image: Image.Image, m: float, fill: Colour) -> Image.Image:
    return image.rotate(30.0 * m, BILINEAR, fillcolor=fill)


def _solarize(image: Image.Image, m: float, fill: Colour) -> Image.Image:
    threshold = max(0, round(256 * (1.0 - abs(m))))
    return _on_colours(lambda colours: ImageOps.solarize(colours, threshold), image)


def _posterize(image: Image.Image, m: float, fill: Colour) -> Image.Image:
    bits = max(1, 8 - round(4 * abs(m)))
    return _on_colours(lambda colours: ImageOps.posterize(colours, bits), image)


def _enhancing(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    def enhance(image: Image.Image, m: float, fill: Colour) -> Image.Image:
        factor = max(0.1, 1.0 + 0.9 * m)
        return _on_colours(lambda colours: kind(colours).enhance(factor), image)

    return enhance


def _shear_x(image: Image.Image, m: float, fill: Colour) -> Image.Image:
    return _affine(image, fill, 1.0, 0.3 * m, -0.15 * m * image.height, 0.0, 1.0, 0.0)


def _shear_y(image: Image.Image, m: float, fill: Colour) -> Image.Image:
    return _affine(image, fill, 1.0, 0.0, 0.0, 0.3 * m, 1.0, -0.15 * m * image.width)


def _translate_x(image: Image.Image, m: float, fill: Colour) -> Image.Image:
    return _affine(image, fill, 1.0, 0.0, 0.45 * _shift(m) * image.width, 0.0, 1.0, 0.0)


def _translate_y(image: Image.Image, m: float, fill: Colour) -> Image.Image:
    return _affine(image, fill, 1.0, 0.0, 0.0, 0.0, 1.0, 0.45 * _shift(m) * image.height)


def _shift(m: float) -> float:
    """At most 1, so that half of the image stays."""
    return min(1.0, max(-1.0, m))


OPERATIONS: tuple[Operation, ...] = (
    _identity,
    _autocontrast,
    _equalize,
    _rotate,
    _solarize,
    _posterize,
    _enhancing(ImageEnhance.Color),
    _enhancing(ImageEnhance.Contrast),
    _enhancing(ImageEnhance.Brightness),
    _enhancing(ImageEnhance.Sharpness),
    _shear_x,
    _shear_y,
    _translate_x,
    _translate_y,
)
