"""Text files: read in bounded time and memory, or refused with one sentence; written whole or not at all."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from subbyte.errors import InputError
from subbyte.system.whole_file import write_whole


def read_text(what: str, path: Path, limit: int) -> str:
    """The text of a user's UTF-8 file of at most `limit` bytes, without a byte order mark.

    what: begins what an error says of the file, like "class names from". InputError if it is missing,
    unreadable, larger, no regular file (a pipe would wait for a writer) or not UTF-8.
    """
    subject = f"cannot read {what} {path}"
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{subject}: it is not a regular file")
        with path.open("rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise InputError(f"{subject}: it has more than {limit} bytes")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{subject}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{subject}: it is not UTF-8 text") from None
    except ValueError:  # a null character
        raise InputError(f"{subject}: this is no file name") from None


def read_json(what: str, path: Path, limit: int) -> Any:
    """The value of such a file that holds JSON. InputError if it does not, or is nested too deeply."""
    text = read_text(what, path, limit)
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"cannot read {what} {path}: {error}") from None
    except RecursionError:
        raise InputError(f"cannot read {what} {path}: it is nested too deeply") from None


def write_text(path: Path, text: str) -> None:
    """Writes the file in UTF-8, as a whole or not at all. InputError if it cannot be written."""
    write_whole(path, [text.encode("utf-8", "backslashreplace")])  # names of files need not be UTF-8
