"""Class names: ImageNet's, shipped with the package, or a user's own text file."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

from subbyte.errors import InputError
from subbyte.text_file import read_text

IMAGENET_CLASSES = 1000
MAX_BYTES = 1 << 24


@cache
def imagenet_synsets() -> tuple[tuple[str, str], ...]:
    """(WordNet id, name) of the 1000 ImageNet-1k classes in index order, first synonym only."""
    text = resources.files("subbyte.evaluate").joinpath("imagenet_classes.txt").read_text("utf-8")
    pairs = (line.split(" ", 1) for line in text.splitlines())
    return tuple((wnid, words.split(",")[0].strip()) for wnid, words in pairs)


def read_classes(path: Path) -> tuple[str, ...]:
    """One class name per line, in index order. InputError if the file is missing, empty or not text."""
    names = tuple(line.strip() for line in read_text("class names from", path, MAX_BYTES).splitlines())
    while names and not names[-1]:
        names = names[:-1]
    if not names or not all(names):
        raise InputError(f"{path} must hold one class name per line, without empty lines")
    return names


def default_classes(count: int) -> tuple[str, ...] | None:
    """ImageNet's names for a network with 1000 outputs, else none."""
    return tuple(name for _, name in imagenet_synsets()) if count == IMAGENET_CLASSES else None
