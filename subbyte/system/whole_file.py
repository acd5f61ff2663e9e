"""Files that are there as a whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from subbyte.errors import InputError, SubbyteError


def write_whole(
    path: Path, pieces: Iterable[bytes | memoryview], error: type[SubbyteError] = InputError
) -> None:
    """Writes the file, or leaves what was there; nothing else stays behind, whatever happens.

    Raises `error` if it cannot be written.
    """
    if "\0" in str(path):
        raise error(f"cannot write {str(path)!r}: it has a null character; check the path")
    if not path.name:  # "." or "/"
        raise error(f"cannot write {path}: it is not a regular file; give the name of a file")
    partial = path.with_name(f".{secrets.token_hex(4)}.{path.name}.partial")
    try:
        if path.exists() and not path.is_file():  # a folder; or a device, which would be replaced
            raise error(f"cannot write {path}: it is not a regular file; give the name of a file")
        with partial.open("xb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as failure:
        _remove(partial)
        if not isinstance(failure, OSError):
            raise
        raise error(
            f"cannot write {path}: {failure.strerror or failure}; choose a folder that exists, is writable "
            "and has room"
        ) from None


def remove_partial(path: Path) -> None:
    """Removes what a process that was killed while it wrote this file has left beside it.

    For files that one process writes at a time.
    """
    for partial in path.parent.glob(f".????????.{glob.escape(path.name)}.partial"):
        _remove(partial)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # what stopped the writing is the error to tell
        path.unlink(missing_ok=True)
