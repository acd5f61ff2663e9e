"""Folders for what is kept between runs."""

from __future__ import annotations

from pathlib import Path

from subbyte.errors import InputError


def make_folder(folder: Path, what: str, advice: str) -> Path:
    """The folder, made with those above it if there is none.

    what: is to be kept there; advice: what a user does if it cannot. Raises InputError made of both.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot keep {what}: {error.strerror}; {advice}") from None
    return folder
