"""Text of files, names and metadata inside Markdown (CommonMark, GitHub's tables), never as markup."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"([\\`*\[\]|~#!])|(?<![^\W_])(_)|(_)(?![^\W_])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def plain(text: object) -> str:
    """One line in which nothing is markup. Underscores inside words stay: they are none there."""
    one_line = " ".join(str(text).split())
    entities = "".join(_ENTITIES.get(character, character) for character in one_line)
    return _SPECIAL.sub(lambda found: "\\" + found.group(), entities)


def row(cells: list[str]) -> str:
    """A table's line of cells that are escaped already."""
    return "| " + " | ".join(cells) + " |"
