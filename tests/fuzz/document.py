"""A file taken apart without any checks, so that any part of it can be made to lie."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any


class Pairs(list):  # type: ignore[type-arg]
    """A JSON object as [key, value] lists, so that a key can appear twice."""


def parse(text: str) -> Any:
    return json.loads(text, object_pairs_hook=lambda pairs: Pairs([key, value] for key, value in pairs))


def dump(value: Any) -> str:
    """JSON, except that what is not JSON (NaN, duplicate keys) is written all the same."""
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{dump(key)}:{dump(item)}" for key, item in value) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(dump, value)) + "]"
    if isinstance(value, float) and math.isinf(value):
        return "1e999" if value > 0 else "-1e999"
    return json.dumps(value)


@dataclass
class Document:
    """header: the tensor table, as Pairs; fields: the metadata, parsed; body: the tensors' bytes."""

    header: Pairs
    fields: Pairs
    body: bytearray

    @staticmethod
    def split(data: bytes) -> Document:
        length = int.from_bytes(data[:8], "little")
        header = parse(data[8 : 8 + length].decode())
        metadata = header.pop(0)[1]
        fields = Pairs([key, text if key in ("format", "version") else parse(text)] for key, text in metadata)
        return Document(header, fields, bytearray(data[8 + length :]))

    def join(self) -> bytes:
        metadata = Pairs(
            [key, value if isinstance(value, str) else dump(value)] for key, value in self.fields
        )
        text = dump(Pairs([["__metadata__", metadata], *self.header])).encode("utf-8", "surrogatepass")
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text + bytes(self.body)

    def field(self, name: str) -> Any:
        return next(value for key, value in self.fields if key == name)
