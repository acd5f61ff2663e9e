"""FlatBuffers, read only and within bounds: the few forms of the format that TensorFlow Lite's files need.

The library `flatbuffers` trusts the file: an offset outside it becomes a struct.error, a NumPy error, or a
number from somewhere else. Here every offset and length is compared with the file before it is followed, and
nothing is copied. The format: https://flatbuffers.dev/internals, "Tables", "Vectors".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

MAX_ITEMS = 1 << 17  # of a vector of tables
MAX_TEXT = 1 << 12  # bytes of a text that is looked at


class Damaged(Exception):
    """The file is not what it says it is; the text completes "the file is damaged: "."""


@dataclass(frozen=True)
class Table:
    """A table at the position `at` of the file. Fields are numbered as the schema declares them, from 0; one
    that is not stored has its default. Every method raises Damaged for what does not lie in the file."""

    data: bytes
    at: int

    def __post_init__(self) -> None:
        (back,) = self._unpack("<i", self.at)
        vtable = self.at - back
        size, inline = self._unpack("<HH", vtable)
        if size < 4 or size % 2 or inline < 4:
            raise Damaged(f"the table at byte {self.at} has no valid list of fields")
        self._inside(vtable, size)
        self._inside(self.at, inline)
        object.__setattr__(self, "_fields", (vtable, size, inline))

    def _inside(self, at: int, size: int) -> None:
        if at < 0 or size < 0 or at + size > len(self.data):
            raise Damaged(f"it refers to byte {at + max(size, 0)} of a file of {len(self.data)} bytes")

    def _unpack(self, form: str, at: int) -> tuple[int, ...]:
        self._inside(at, struct.calcsize(form))
        return struct.unpack_from(form, self.data, at)

    def _place(self, field: int, size: int) -> int | None:
        """Where a field of `size` bytes lies; None if it is not stored."""
        vtable, listed, inline = self._fields  # type: ignore[attr-defined]
        if 4 + 2 * field + 2 > listed:
            return None
        (offset,) = self._unpack("<H", vtable + 4 + 2 * field)
        if offset == 0:
            return None
        if offset < 4 or offset + size > inline:
            raise Damaged(f"field {field} of the table at byte {self.at} lies outside the table")
        return self.at + offset

    def number(self, field: int, form: str, default: int) -> int:
        """An integer; form: its struct format without byte order, such as "i"."""
        place = self._place(field, struct.calcsize("<" + form))
        return default if place is None else self._unpack("<" + form, place)[0]

    def real(self, field: int, default: float) -> float:
        """A float32."""
        place = self._place(field, 4)
        return default if place is None else float(self._unpack("<f", place)[0])

    def _target(self, field: int) -> int | None:
        place = self._place(field, 4)
        return None if place is None else place + self._unpack("<I", place)[0]

    def table(self, field: int) -> Table | None:
        """Another table."""
        target = self._target(field)
        return None if target is None else Table(self.data, target)

    def _vector(self, field: int, size: int) -> tuple[int, int]:
        """Where the items of a vector begin, and how many they are, of `size` bytes each."""
        target = self._target(field)
        if target is None:
            return 0, 0
        (count,) = self._unpack("<I", target)
        self._inside(target + 4, count * size)
        return target + 4, count

    def numbers(self, field: int, dtype: str) -> np.ndarray:
        """A vector of numbers, 1-dimensional, a view of the file; empty if it is not stored."""
        kind = np.dtype(dtype).newbyteorder("<")
        start, count = self._vector(field, kind.itemsize)
        return np.frombuffer(self.data, kind, count, start)

    def text(self, field: int) -> str:
        """A text, what is no UTF-8 replaced; cut off at MAX_TEXT bytes."""
        start, count = self._vector(field, 1)
        return self.data[start : start + min(count, MAX_TEXT)].decode("utf-8", "replace")

    def tables(self, field: int) -> list[Table]:
        """A vector of tables."""
        start, count = self._vector(field, 4)
        if count > MAX_ITEMS:
            raise Damaged(f"it lists {count} things where at most {MAX_ITEMS} are supported")
        places = range(start, start + 4 * count, 4)
        return [Table(self.data, place + self._unpack("<I", place)[0]) for place in places]


def root(data: bytes, identifier: bytes) -> Table:
    """The table that a file of this four-byte identifier holds. Damaged if it is no such file."""
    if len(data) < 8 or data[4:8] != identifier:
        raise Damaged(f"it does not begin as files of the kind {identifier.decode()} do")
    return Table(data, struct.unpack_from("<I", data)[0])
