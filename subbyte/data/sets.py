"""Several sets of images, each with its own way to the input size: FOLDER, FOLDER:crop or FOLDER:squash."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from subbyte.data.labels import TABLES
from subbyte.data.samples import RESIZE_MODES, Sample, image_folder, labelled_folder, subset
from subbyte.errors import InputError


@dataclass(frozen=True)
class ImageSet:
    """A folder of images. resize: as `with_resize` takes it, None for the network's own preprocessing."""

    folder: Path
    resize: str | None = None

    def samples(
        self, read: Callable[[Path], list[Sample]] = labelled_folder, limit: int | None = None
    ) -> list[Sample]:
        """The labelled images that `read` finds, `limit` of them drawn with seed 0. InputError as `read`."""
        return self._resized(read(self.folder), limit)

    def unlabelled_samples(self, limit: int | None = None) -> list[Sample]:
        """Every image below the folder, without labels. InputError as `image_folder`."""
        return self._resized(image_folder(self.folder), limit)

    @property
    def is_labelled(self) -> bool:
        """Whether the folder says labels: it has a table of labels or a subfolder per class.

        Raises InputError if it is no folder.
        """
        if not self.folder.is_dir():
            raise InputError(f"{self.folder} is not a folder")
        inside = (path for path in self.folder.iterdir() if not path.name.startswith("."))
        return any(path.name in TABLES or path.is_dir() for path in inside)

    def _resized(self, samples: Sequence[Sample], limit: int | None) -> list[Sample]:
        return [replace(sample, resize=self.resize) for sample in subset(samples, limit)]


def parse_set(text: str) -> ImageSet:
    """Of `text` only a last ":crop" or ":squash" is no part of the path ("a:crop/" is the folder "a:crop").

    InputError: another word behind the folder.
    """
    folder, _, mode = text.rpartition(":")
    if folder and mode in RESIZE_MODES:
        return ImageSet(Path(folder), mode)
    if folder and Path(folder).is_dir() and not Path(text).exists():
        raise InputError(f"{text}: behind the folder stands :{' or :'.join(RESIZE_MODES)}, got {mode!r}")
    return ImageSet(Path(text))


def parse_sets(texts: Sequence[str]) -> list[ImageSet]:
    """Each as `parse_set` reads it. InputError if a folder is given twice: its images would count twice."""
    sets = [parse_set(text) for text in texts]
    folders = [each.folder.resolve() for each in sets]
    for each, folder in zip(sets, folders, strict=True):
        if folders.count(folder) > 1:
            raise InputError(f"{each.folder} is given twice: each set of images counts once")
    return sets
