"""What can be said about paths to write to before any work is done."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from subbyte.errors import InputError


def check_output(option: str, path: Path, suffix: str, others: Iterable[Path | str | None] = ()) -> None:
    """InputError unless a file `path`, ending in `suffix`, can be written and is none of the `others`."""
    if path.is_dir():
        raise InputError(f"{option} {path} is a folder; give a file that ends in {suffix}")
    if path.suffix.lower() != suffix:
        raise InputError(f"{option} {path} must end in {suffix}")
    if path.exists() and not path.is_file():
        raise InputError(f"{option} {path} is not a regular file")
    for other in others:
        if other is not None and Path(other).resolve() == path.resolve():
            raise InputError(
                f"{option} {path} would overwrite another file of this command; choose another name"
            )
    _check_writable(option, path.parent)


def check_output_folder(option: str, path: Path) -> None:
    """InputError unless the folder `path` can be made, or is there and can be written to."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{option} {path} is not a folder")
    _check_writable(option, next(folder for folder in (path, *path.parents) if folder.exists()))


def _check_writable(option: str, folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{option}: {folder} is not a folder")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"{option}: cannot write to the folder {folder}: {error.strerror}") from None
