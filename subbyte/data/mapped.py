"""Arrays too large for memory, in a file that only this process sees."""

from __future__ import annotations

import tempfile
import weakref
from pathlib import Path

import numpy as np

from subbyte.errors import InputError
from subbyte.system.folders import make_folder


def folder_of_maps(work: Path | None) -> Path:
    """Where files of one run go: its folder, made if there is none, else the system's for such files.

    Raises InputError if it cannot be made.
    """
    if work is None:
        return Path(tempfile.gettempdir())
    return make_folder(work, f"images in {work}", "choose another folder")


class Mapped:
    """Rows of one shape and dtype, written one after the other to a file in `folder`, then read as an array.

    The file has no name, or one that goes with it: its room is free again when the last array of it is, or
    when the process ends, however it ends. What is read lies in the system's cache of files, which it takes
    back when memory is short.

    Raises InputError if the file cannot be made or written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.count, self.row, self.dtype = folder, 0, (0,), np.dtype(np.float32)
        self._array: np.ndarray | None = None
        try:
            self.file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        except OSError as failure:
            raise self._error(failure) from None
        weakref.finalize(self, self.file.close)

    def add(self, rows: np.ndarray) -> None:
        """Appends rows [n, ...]; all of one shape and dtype."""
        if self.count == 0:
            self.row, self.dtype = rows.shape[1:], rows.dtype
        assert (rows.shape[1:], rows.dtype) == (self.row, self.dtype)
        left = np.ascontiguousarray(rows).reshape(-1).view(np.uint8)
        try:
            while len(left):
                left = left[self.file.write(left.data) :]
        except OSError as failure:
            raise self._error(failure) from None
        self.count += len(rows)

    def array(self) -> np.ndarray:
        """All rows, [count, ...], not to be written to; nothing can be added any more."""
        if self.count == 0:
            return np.empty((0, *self.row), self.dtype)
        if self._array is None:
            try:
                with self.file:
                    # shared: a private mapping would count as memory of the process
                    self._array = np.memmap(self.file, self.dtype, "r+", shape=(self.count, *self.row))
            except OSError as failure:
                raise self._error(failure) from None
        return self._array

    def _error(self, failure: OSError) -> InputError:
        reason = failure.strerror or failure
        return InputError(
            f"cannot keep images and what layers make of them in {self.folder}: {reason}; choose a folder "
            "that is writable and has room (--work, or TMPDIR), or use fewer images"
        )
