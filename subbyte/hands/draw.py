"""A hand's skeleton, drawn on its image: a colour for each finger."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

from subbyte.hands.skeleton import BONES, FINGERS

PALM = "#ffffff"
COLOURS = dict(zip(FINGERS, ("#e6550d", "#fdd049", "#31a354", "#3182bd", "#9e4fc4"), strict=True))
THIN = 1 / 120  # of the image's shorter side: the width of a line


def coloured(points: np.ndarray) -> Iterator[tuple[str, tuple[float, float], tuple[float, float]]]:
    """Colour and ends of each bone of a hand's points [21, 2 or more]."""
    for a, b in BONES:
        (x, y), (u, v) = points[a][:2], points[b][:2]
        yield colour(b) if a else PALM, (float(x), float(y)), (float(u), float(v))


def colour(joint: int) -> str:
    """That of the finger which a joint belongs to."""
    return next((COLOURS[name] for name, joints in FINGERS.items() if joint in joints), PALM)


def drawn(image: np.ndarray, points: np.ndarray | None) -> Image.Image:
    """The image uint8 [H, W, 3] with a hand's points [21, 2 or more] drawn; as it is without."""
    picture = Image.fromarray(image)
    if points is None:
        return picture
    pen = ImageDraw.Draw(picture)
    width = max(1, round(min(picture.size) * THIN))
    for shade, start, end in coloured(points):
        pen.line([start, end], fill=shade, width=width)
    for joint, (x, y) in enumerate(points[:, :2]):
        box = (x - width, y - width, x + width, y + width)
        pen.ellipse(box, fill=colour(joint), outline="#000000")
    return picture
