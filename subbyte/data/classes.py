"""Class names: ImageNet's, shipped with the package, or a user's own text file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path

from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.ir.limits import MAX_NAME
from subbyte.system.text_file import read_text

IMAGENET_CLASSES = 1000
MAX_BYTES = 1 << 24


@cache
def imagenet_synsets() -> tuple[tuple[str, str], ...]:
    """(WordNet id, name) of the 1000 ImageNet-1k classes in index order, first synonym only."""
    text = resources.files("subbyte.data").joinpath("imagenet_classes.txt").read_text("utf-8")
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


def class_names(classes: tuple[str, ...] | None, graph: Graph) -> tuple[str, ...] | None:
    """The names of the elements of the graph's first output: those given, else `default_classes`.

    Two classes may have one name: ImageNet has two cranes, a bird and a machine.
    Raises InputError before any work that an artifact's writer would refuse after it: another number of
    names than outputs, a name that is too long or not printable.
    """
    count = graph.value(graph.outputs[0]).shape[-1]
    if classes is None:
        return default_classes(count)
    if len(classes) != count:
        raise InputError(f"there are {len(classes)} class names, but the network has {count} outputs")
    for i, name in enumerate(classes):
        if not (isinstance(name, str) and 1 <= len(name) <= MAX_NAME and name.isprintable()):
            raise InputError(
                f"the name of class {i}, {name!r:.80}, is not 1..{MAX_NAME} printable characters"
            )
    return classes


def distinct(classes: Sequence[str]) -> list[str]:
    """The names for people: one that several classes have is followed by the index, like `crane (134)`."""
    count = Counter(classes)
    return [f"{name} ({i})" if count[name] > 1 else name for i, name in enumerate(classes)]


def default_classes(count: int) -> tuple[str, ...] | None:
    """ImageNet's names for a network with 1000 outputs, else none."""
    return tuple(name for _, name in imagenet_synsets()) if count == IMAGENET_CLASSES else None
