"""Training crops for landmark networks: hands as such a network sees them, varied, from unlabelled images.

    python -m bench.hand_crops OUTPUT --palm NETWORK --landmarks NETWORK [--photos FOLDER...]
        [--single FOLDER...] [--backgrounds FOLDER...] [--each N] [--empty N] [--seed N]

--photos: photographs in which palms are looked for. --single: images that one hand fills, which may lie
before white; half of their crops are put before a --backgrounds photograph. --each: crops of a hand.
--empty: crops of backgrounds, without a hand.

Of each hand that the landmark network is sure of, crops of the square around its palm or its landmarks are
turned, shifted and scaled, and change in colour, light and sharpness. OUTPUT/train and, of every tenth run of
fifty images, OUTPUT/held get them as JPEG files. Labels are none: the teacher sees the crops in training.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from subbyte.data.decode import read_image
from subbyte.data.samples import image_folder
from subbyte.errors import SubbyteError
from subbyte.hands import LandmarkNetwork, PalmDetector, Region, from_landmarks, warp
from subbyte.hands.region import INPUT, whole
from subbyte.hands.warp import pixels
from subbyte.system.folders import make_folder

SURE = 0.5  # presence from which a hand is one
RUN, HELD = 50, 10  # images that stay together; of so many runs one is held back


@dataclass
class Maker:
    """palms, landmarks: the networks. backgrounds: photographs. chance: of everything."""

    output: Path
    palms: PalmDetector
    landmarks: LandmarkNetwork
    backgrounds: Sequence[Path]
    chance: np.random.Generator
    count: int = 0

    def photograph(self, path: Path, part: str, each: int) -> None:
        """Crops of every hand in a photograph."""
        image = pixels(read_image(path))
        for palm in self.palms.find(image):
            self.hand(image, palm.region(), part, each, before=False)

    def single(self, path: Path, part: str, each: int) -> None:
        """Crops of the hand that fills an image; every other before a photograph."""
        image = pixels(read_image(path))
        self.hand(
            image, replace(whole(image, INPUT), side=1.2 * max(image.shape[:2])), part, each, before=True
        )

    def hand(self, image: np.ndarray, region: Region, part: str, each: int, *, before: bool) -> None:
        """Crops of a hand that is roughly in this region, if there is one."""
        found = self.landmarks.find(image, region)
        if found.presence < SURE:
            return
        close = from_landmarks(found.points)
        for number in range(each):
            start = region if not before and self.chance.random() < 0.5 else close
            seen = warp(image, self.varied(start), black=self.chance.random() < 0.2)
            if before and self.backgrounds and number % 2:
                seen = cut_out(seen, self.background())
            self.write(seen, part, "hand")

    def varied(self, region: Region) -> Region:
        """The region, shifted, scaled and turned; a few by any angle."""
        dx, dy = self.chance.uniform(-0.08, 0.08, 2) * region.side
        any_angle = self.chance.random() < 0.06
        turn = self.chance.uniform(-np.pi, np.pi) if any_angle else self.chance.normal(0, 0.26)
        side = region.side * np.exp(self.chance.uniform(-0.25, 0.25))
        return Region(region.x + dx, region.y + dy, float(side), region.angle + float(turn))

    def background(self) -> np.ndarray:
        """A random square of a random photograph, float32 [INPUT, INPUT, 3] in 0..1."""
        image = pixels(read_image(self.backgrounds[int(self.chance.integers(len(self.backgrounds)))]))
        height, width = image.shape[:2]
        side = min(height, width) * self.chance.uniform(0.4, 1.0)
        x, y = (self.chance.uniform(side / 2, length - side / 2) for length in (width, height))
        return warp(image, Region(float(x), float(y), float(side)))

    def write(self, seen: np.ndarray, part: str, kind: str) -> None:
        """A crop, changed in colour, light and sharpness, as a file."""
        image = self.lit(seen)
        image.save(self.output / part / f"{kind}-{self.count:05}.jpg", quality=95)
        self.count += 1

    def lit(self, seen: np.ndarray) -> Image.Image:
        """An image float32 in 0..1 in another light, blurred or noisy."""
        chance, x = self.chance, seen.astype(np.float64)
        if chance.random() < 0.8:
            x = x ** np.exp(chance.normal(0, 0.3)) * np.exp(chance.normal(0, 0.12, 3))
            grey = x.mean(2, keepdims=True)
            x = grey + (x - grey) * chance.uniform(0.5, 1.4)
            x = (x - 0.5) * chance.uniform(0.7, 1.2) + 0.5 + chance.normal(0, 0.06)
        if chance.random() < 0.25:
            x = x + chance.normal(0, chance.uniform(0.01, 0.05), x.shape)
        image = Image.fromarray((255 * x.clip(0, 1)).astype(np.uint8))
        if chance.random() < 0.25:
            image = image.filter(ImageFilter.GaussianBlur(chance.uniform(0.5, 2.2)))
        return image


def cut_out(seen: np.ndarray, background: np.ndarray) -> np.ndarray:
    """A hand before white on a photograph: what is redder than the border, or dark, stays.

    Both float32 [H, W, 3] in 0..1.
    """
    red, light = seen[..., 0] - seen[..., 2], seen.mean(2)
    border = np.median(np.concatenate([red[0], red[:, 0], red[:, -1]]))
    mask = np.maximum(((red - border - 0.03) / 0.07).clip(0, 1), light < 0.45 * np.percentile(light, 95))
    smooth = Image.fromarray((255 * mask).astype(np.uint8))
    smooth = smooth.filter(ImageFilter.MedianFilter(5)).filter(ImageFilter.GaussianBlur(1))
    share = np.asarray(smooth, np.float32)[..., None] / 255
    mixed: np.ndarray = seen * share + background * (1 - share)
    return mixed


def parts(folders: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """The images of folders, and which part each belongs to."""
    for folder in folders:
        for number, sample in enumerate(image_folder(folder)):
            yield sample.path, "held" if number // RUN % HELD == HELD - 3 else "train"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--palm", type=Path, required=True)
    parser.add_argument("--landmarks", type=Path, required=True)
    for name in ("--photos", "--single", "--backgrounds"):
        parser.add_argument(name, type=Path, nargs="+", default=[])
    parser.add_argument("--each", type=int, default=2)
    parser.add_argument("--empty", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        for part in ("train", "held"):
            make_folder(given.output / part, f"the crops in {given.output}", "choose another folder")
        backgrounds = [sample.path for folder in given.backgrounds for sample in image_folder(folder)]
        networks = PalmDetector(given.palm), LandmarkNetwork(given.landmarks)
        maker = Maker(given.output, *networks, backgrounds, np.random.default_rng(given.seed))
        for path, part in parts(given.photos):
            maker.photograph(path, part, given.each)
        for path, part in parts(given.single):
            maker.single(path, part, given.each)
        for number in range(given.empty if backgrounds else 0):
            maker.write(maker.background(), "train" if number % HELD else "held", "empty")
        print(f"{maker.count} crops in {given.output}")
    except SubbyteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
