"""Folders of images: which files, which labels, and how an image becomes an input.

A folder of images for a classifier is one of
- labelled by `labels.csv` with the columns `file,label` (others are ignored), label an integer;
- labelled by its layout: one subfolder per class;
- unlabelled: any images below it (calibration).
Labels that are numbers are read by labels.py.
Images are decoded when they are needed, one batch at a time (decode.py).
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from subbyte.data.classes import IMAGENET_CLASSES, imagenet_synsets
from subbyte.data.decode import read_image
from subbyte.errors import InputError
from subbyte.preprocess import Preprocessing
from subbyte.system.text_file import read_text

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".gif", ".tif", ".tiff"}
SUFFIXES |= {".avif", ".heic", ".heif"}
MAX_TABLE = 1 << 28  # bytes of a labels.csv: some million lines
RESIZE_MODES = ("crop", "squash")
# An image is resized as a whole, as torchvision does, if that makes at most so many pixels, or so many
# times the network's input.
MAX_RESIZED = 2**23
MAX_RESIZED_INPUTS = 8
_SYNSET = re.compile(r"n\d{8}")
FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
}


#: The index of a class, the numbers that a network should answer with (NaN: not known), or a mask's file.
Label = int | tuple[float, ...] | Path


@dataclass(frozen=True)
class Sample:
    """An image's file, its label if it is known, and how this image reaches the input size (as `with_resize`
    takes it) if not as the network's preprocessing says."""

    path: Path
    label: Label | None = None
    resize: str | None = None


# --------------------------------------------------------------------------- folders


def labelled_folder(
    root: Path | str, num_classes: int | None = None, classes: Sequence[str] | None = None
) -> list[Sample]:
    """The labelled images of `root`, in a fixed order.

    num_classes: how many outputs the network has; labels are checked against it.
    classes: the network's class names; subfolders named like them are matched by name.

    Raises InputError: no such folder, no images, no labels, a label outside 0..num_classes-1.
    """
    root = _folder(root)
    table = root / "labels.csv"
    samples = _from_table(table) if table.is_file() else _from_layout(root, num_classes, classes)
    if not samples:
        raise InputError(f"{root} holds no labelled images")
    for sample in samples:
        assert isinstance(sample.label, int)
        if sample.label < 0 or (num_classes is not None and sample.label >= num_classes):
            known = "" if num_classes is None else f": the network has {num_classes} classes"
            raise InputError(f"{sample.path} has the label {sample.label}{known}")
    return samples


def image_folder(root: Path | str) -> list[Sample]:
    """Every image below `root`, without labels, sorted by path; links to folders are followed. InputError if
    there is none."""
    root = _folder(root)
    samples = [Sample(path) for path in _images(root)]
    if not samples:
        raise InputError(f"{root} holds no images ({', '.join(sorted(SUFFIXES))})")
    return samples


def subset(samples: Sequence[Sample], count: int | None, seed: int = 0) -> list[Sample]:
    """`count` samples drawn without replacement with numpy's PCG64(seed), in the given order.

    Raises InputError if count is less than 1.
    """
    if count is None or count >= len(samples):
        return list(samples)
    if count < 1:
        raise InputError(f"the number of images must be at least 1, got {count}")
    chosen = np.random.default_rng(seed).choice(len(samples), count, replace=False)
    return [samples[i] for i in sorted(chosen.tolist())]


def _folder(root: Path | str) -> Path:
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root} is not a folder")
    return root


def _images(folder: Path) -> list[Path]:
    """The images below a folder and the folders that links in there lead to, each folder once; sorted."""
    found, seen, pending = [], set(), [folder]
    while pending:
        for here, folders, files in os.walk(pending.pop(0)):
            real = os.path.realpath(here)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders.sort()
            pending += [path for name in folders if (path := Path(here, name)).is_symlink()]
            paths = (Path(here, name) for name in files if not name.startswith("."))
            found += [path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file()]
    return sorted(found)


def _from_table(table: Path) -> list[Sample]:
    return [_row(table, line, row) for line, row in read_csv(table)]


def read_csv(table: Path) -> list[tuple[int, dict[str, str | None]]]:
    """The rows of a CSV file by the names in its first line, each with its line number.

    Raises InputError if it cannot be read.
    """
    reader = csv.DictReader(io.StringIO(read_text("labels from", table, MAX_TABLE), newline=""))
    try:
        return [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InputError(f"cannot read labels from {table}: {error}") from None


def _row(table: Path, number: int, row: dict[str, str | None]) -> Sample:
    name, label = row.get("file"), row.get("label")
    if not name or label is None:
        raise InputError(f"{table} line {number}: needs the columns file and label")
    if not re.fullmatch(r"\s*\d{1,9}\s*", label):
        raise InputError(f"{table} line {number}: the label must be a class index 0, 1, ..., got {label!r}")
    return Sample(listed_file(table, number, name), int(label))


def listed_file(table: Path, line: int, name: str) -> Path:
    """The file that a table names, in the table's folder or below it; links in there may lead anywhere.

    Raises InputError naming the line: a path from elsewhere, so that a data set of unknown origin reads,
    and shows in reports, no file outside its folder; or no such file.
    """
    if Path(name).anchor or ".." in Path(name).parts:
        raise InputError(
            f"{table} line {line}: the file must be inside the folder of the table, got {name!r}"
        )
    path = table.parent / name
    if not path.is_file():
        raise InputError(f"{table} line {line}: there is no file {path}")
    return path


def _from_layout(root: Path, num_classes: int | None, classes: Sequence[str] | None) -> list[Sample]:
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        if _images(root):
            raise InputError(
                f"{root} has no labels: it needs a labels.csv (file,label) or one subfolder a class"
            )
        return []
    index = _class_indices(root, [path.name for path in folders], num_classes, classes)
    return [Sample(path, index[folder.name]) for folder in folders for path in _images(folder)]


def _class_indices(
    root: Path, names: list[str], num_classes: int | None, classes: Sequence[str] | None
) -> dict[str, int]:
    if classes is not None and set(names) & set(classes):
        return _indices_by_name(root, names, classes)
    if num_classes in (None, IMAGENET_CLASSES) and all(_SYNSET.fullmatch(name) for name in names):
        imagenet = {wnid: i for i, (wnid, _) in enumerate(imagenet_synsets())}
        unknown = sorted(set(names) - set(imagenet))
        if unknown:
            raise InputError(f"{root / unknown[0]} is not one of the 1000 ImageNet classes")
        return {name: imagenet[name] for name in names}
    if num_classes is not None and len(names) != num_classes:
        raise InputError(
            f"{root} has {len(names)} class folders and the network {num_classes} classes: name the folders"
            " like the network's classes or write a labels.csv (file,label)"
        )
    return {name: i for i, name in enumerate(names)}


def _indices_by_name(root: Path, names: list[str], classes: Sequence[str]) -> dict[str, int]:
    """Where one folder is named like a class, all must be: any other order would be a guess."""
    count = Counter(classes)
    for name in names:
        if count[name] != 1:
            known = (
                f"{count[name]} of the network's classes are" if count[name] else "no class of the network is"
            )
            raise InputError(f"{root / name}: {known} called {name!r}; write a labels.csv (file,label)")
    return {name: list(classes).index(name) for name in names}


# --------------------------------------------------------------------------- images


def with_resize(preprocessing: Preprocessing, mode: str | None) -> Preprocessing:
    """The preprocessing with another way to reach the input size.

    "crop": shorter side to size / crop_fraction, central crop. "squash": height and width straight
    to the input size, nothing cut. None: as it is. InputError for another word.
    """
    if mode is None:
        return preprocessing
    if mode == "crop":
        return replace(preprocessing, crop_mode="center")
    if mode == "squash":
        return replace(preprocessing, crop_mode="squash", crop_fraction=1.0)
    raise InputError(f"the resize mode must be one of {', '.join(RESIZE_MODES)}, got {mode!r}")


def fit(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Resized and cropped to the network's input, of the same mode (subbyte/preprocess.py, 1 and 2).

    A long strip, whose short side is magnified, would become gigabytes: of what exceeds the limits above,
    only the window is made. It is not always the same to the bit, because PIL rounds a window's corners to
    float32 and takes first the axis that leaves less to do.
    """
    p = preprocessing
    width, height, left, top = resized(image.size, p)
    right, bottom = left + p.width, top + p.height
    if width * height <= max(MAX_RESIZED, MAX_RESIZED_INPUTS * p.width * p.height):
        return image.resize((width, height), FILTERS[p.interpolation]).crop((left, top, right, bottom))
    across, down = image.width / width, image.height / height
    window = (left * across, top * down, right * across, bottom * down)
    return image.resize((p.width, p.height), FILTERS[p.interpolation], window)


def resized(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int, int, int]:
    """Of an image of this (width, height): its width and height after the resize, and the left and top of the
    input's window there, pixels."""
    p = preprocessing
    height, width = int(p.height / p.crop_fraction), int(p.width / p.crop_fraction)
    if p.crop_mode == "center":  # the smallest image of the same aspect ratio that covers both
        if size[0] * height >= size[1] * width:
            width = size[0] * height // size[1]
        else:
            height = size[1] * width // size[0]
    return width, height, round((width - p.width) / 2), round((height - p.height) / 2)


def normalize(image: Image.Image | np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """(pixel / 255 - mean) / std: float32 [H, W, C]. An array is uint8 [H, W, C]."""
    pixels = np.asarray(image, np.float32) / np.float32(255)
    if pixels.ndim == 2:  # PIL's grey
        pixels = pixels[..., None]
    return (pixels - np.array(preprocessing.mean, np.float32)) / np.array(preprocessing.std, np.float32)


def load_image(path: Path | str, preprocessing: Preprocessing) -> np.ndarray:
    """An image file as the network's input, float32 [H, W, C]. InputError if it is unreadable."""
    return normalize(fit(read_image(path, preprocessing.channels), preprocessing), preprocessing)


def batches(
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    size: int = 16,
    progress: Callable[[int], None] | None = None,
) -> Iterator[np.ndarray]:
    """float32 [n, H, W, C] with n <= size, in order; `progress` is told the images done so far."""
    for start in range(0, len(samples), size):
        chunk = samples[start : start + size]
        ways = [with_resize(preprocessing, sample.resize) for sample in chunk]
        yield np.stack([load_image(s.path, way) for s, way in zip(chunk, ways, strict=True)])
        if progress is not None:
            progress(start + len(chunk))
