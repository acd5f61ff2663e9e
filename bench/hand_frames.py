"""Frames of a moving hand, from one photograph: what `subbyte hands` is timed on.

    python -m bench.hand_frames IMAGE FOLDER [--count 120] [--width 640] [--height 480]

The photograph, two thirds of a frame high, moves on an ellipse, turns to and fro by 30 degrees, and grows and
shrinks by a fifth, once in 60 frames; around it is grey.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from subbyte.data.decode import read_image
from subbyte.errors import SubbyteError

PERIOD = 60  # frames
GREY = (128, 128, 128)


def moving(photograph: Image.Image, count: int, size: tuple[int, int]) -> Iterator[Image.Image]:
    """`count` frames of `size` (width, height)."""
    width, height = size
    for number in range(count):
        phase = 2 * math.pi * number / PERIOD
        scale = height * 2 / 3 / photograph.height * (1 + 0.2 * math.sin(2 * phase))
        angle = math.radians(30) * math.sin(phase)
        x, y = width / 2 + width / 8 * math.cos(phase), height / 2 + height / 12 * math.sin(phase)
        # PIL asks for the place in the photograph of each pixel of the frame
        c, s = math.cos(angle) / scale, math.sin(angle) / scale
        left, top = photograph.width / 2 - c * x - s * y, photograph.height / 2 + s * x - c * y
        yield photograph.transform(
            size, Image.Transform.AFFINE, (c, s, left, -s, c, top), Image.Resampling.BILINEAR, fillcolor=GREY
        )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    options = parser.parse_args(arguments)
    try:
        photograph = read_image(options.image)
    except SubbyteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    options.folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(moving(photograph, options.count, (options.width, options.height))):
        frame.save(options.folder / f"{number:04}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
