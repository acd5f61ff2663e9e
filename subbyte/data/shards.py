"""Labelled images inside tar files, as the library webdataset writes and reads them ("shards").

Members that follow each other and whose names agree up to the first dot of the last component are one
sample: `KEY.jpg` (or another image format) is the image, `KEY.cls` its class index in decimal digits. Other
members of a sample are ignored. An index of all members is made once, from the headers; an image is read from
its place when it is needed, in any order, so that shards train exactly as a folder of the same images does.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from PIL import Image

from subbyte.data.decode import read_image
from subbyte.data.samples import SUFFIXES, Sample, labelled_folder
from subbyte.errors import InputError

MAX_LABEL = 32  # bytes of a .cls
_NAME = re.compile(r"((?:.*/)?[^./][^/.]*)\.([^/]*)", re.DOTALL)


@dataclass(frozen=True)
class _Place:
    """Where a member's bytes lie in a tar file."""

    tar: Path
    offset: int
    size: int

    def read(self) -> bytes:
        with self.tar.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass(frozen=True)
class LabelledImages:
    """samples: in a fixed order; the path of one from a shard is its name below the shard's. places: of
    those; empty where the samples are files. classes: the names of the subfolders they lie in, in the order
    of their indices; None if their labels have other names, or none."""

    samples: Sequence[Sample]
    places: Sequence[_Place] = ()
    classes: tuple[str, ...] | None = None

    def read(self, index: int, channels: int = 3) -> Image.Image:
        """The image, as `read_image` gives it. InputError if it is unreadable."""
        path = self.samples[index].path
        if not self.places:
            return read_image(path, channels)
        try:
            data = self.places[index].read()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from None
        return read_image(path, channels, data)

    def chosen(self, indices: Sequence[int]) -> LabelledImages:
        """Only the samples with these indices."""
        places = [self.places[i] for i in indices] if self.places else ()
        return LabelledImages([self.samples[i] for i in indices], places, self.classes)


def labelled_images(root: Path | str, classes: Sequence[str] | None = None) -> LabelledImages:
    """The labelled images of a tar file, of a folder with tar files, or of a folder as `labelled_folder`
    reads it.

    classes: class names, which labels are checked against and subfolders are matched with. Subfolders alone
    are numbered in the order of their names, those of all ImageNet classes in ImageNet's.

    Raises InputError: nothing of that kind there, no images, a label that is no class index.
    """
    root = Path(root)
    tars = [root] if root.is_file() else sorted(root.glob("*.tar")) if root.is_dir() else []
    if tars:
        return _sharded(root, tars, classes)
    names = None
    if root.is_dir() and not (root / "labels.csv").is_file():
        names = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    given = names if classes is None else classes
    samples = labelled_folder(root, len(given) if given else None, classes)
    return LabelledImages(samples, classes=tuple(given) if given else None)


def _sharded(root: Path, tars: Sequence[Path], classes: Sequence[str] | None) -> LabelledImages:
    pairs = [pair for tar in tars for pair in _samples(tar)]
    if not pairs:
        raise InputError(f"{root} holds no labelled images: a sample is KEY.jpg (or png, ...) and KEY.cls")
    for sample, _ in pairs:
        assert isinstance(sample.label, int)
        if classes is not None and sample.label >= len(classes):
            raise InputError(f"{sample.path} has the label {sample.label}: there are {len(classes)} classes")
    named = None if classes is None else tuple(classes)
    return LabelledImages([sample for sample, _ in pairs], [place for _, place in pairs], named)


def _samples(tar: Path) -> Iterator[tuple[Sample, _Place]]:
    for key, group in groupby(_members(tar), lambda member: member[0]):
        members = {extension: place for _, extension, place in group}
        image = next((e for e in members if f".{e}" in SUFFIXES), None)
        if image is not None:
            if "cls" not in members:
                raise InputError(f"{tar} has the image {key}.{image} without {key}.cls, its class index")
            path = tar / f"{key}.{image}"
            yield Sample(path, _label(tar / f"{key}.cls", members["cls"])), members[image]


def _members(tar: Path) -> Iterator[tuple[str, str, _Place]]:
    """Key, extension and place of every file in it."""
    total = tar.stat().st_size
    try:
        with tarfile.open(tar, "r:") as file:
            for member in file:
                found = _NAME.fullmatch(member.name)
                if not member.isreg() or found is None:
                    continue
                if member.offset_data + member.size > total:
                    raise InputError(f"{tar} is cut off: {member.name} is not all there")
                yield found[1], found[2].lower(), _Place(tar, member.offset_data, member.size)
                file.members = []  # type: ignore[attr-defined]  # else it keeps all headers
    except (tarfile.TarError, OSError, ValueError) as error:
        raise InputError(f"cannot read {tar} as an uncompressed tar file: {error}") from None


def _label(path: Path, place: _Place) -> int:
    text = place.read() if place.size <= MAX_LABEL else b""
    if not re.fullmatch(rb"\s*\d{1,9}\s*", text):
        raise InputError(f"{path} must hold a class index 0, 1, ..., got {text!r}")
    return int(text)
