"""Masks as labels: a class for each pixel, in the file of the same name below `masks/` beside `images/`.

A mask is an image of one channel, grey or with a palette (PNG), of any size: its numbers are indices of
classes, 255 stands for pixels that do not count.
"""

from __future__ import annotations

from pathlib import Path

from subbyte.data.samples import SUFFIXES, Sample, image_folder
from subbyte.errors import InputError

IMAGES, MASKS = "images", "masks"
IGNORED = 255


def masked_folder(root: Path | str) -> list[Sample]:
    """The images below `images/`, each with the file of its mask as label, sorted by path.

    InputError: no such folders, no images, or one that has no mask, or several.
    """
    images, masks = Path(root) / IMAGES, Path(root) / MASKS
    for folder in (images, masks):
        if not folder.is_dir():
            raise InputError(f"{root} has no labels: it needs the folders {IMAGES} and {MASKS}")
    samples = []
    for sample in image_folder(images):
        inside = masks / sample.path.relative_to(images).parent
        found = [
            path for suffix in sorted(SUFFIXES) if (path := inside / f"{sample.path.stem}{suffix}").is_file()
        ]
        if len(found) != 1:
            raise InputError(f"{sample.path} has {len(found)} masks of its name in {inside}; it needs one")
        samples.append(Sample(sample.path, found[0]))
    return samples
