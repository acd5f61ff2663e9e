"""A file taken apart without any checks, so that any part of it can be made to lie."""

from __future__ import annotations

import bz2
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class Pairs(list[Any]):
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
    """header: the tensor table but for the graph's entry; body: those tensors' bytes; fields: the
    metadata, parsed; graph: the graph's JSON; lie: a last change of the whole table as written."""

    header: Pairs
    fields: Pairs
    graph: Any
    body: bytearray
    lie: Callable[[Pairs], None] = lambda table: None

    @staticmethod
    def split(data: bytes) -> Document:
        length = int.from_bytes(data[:8], "little")
        header, body = parse(data[8 : 8 + length].decode()), data[8 + length :]
        metadata = header.pop(0)[1]
        begin, end = get(header.pop()[1], "data_offsets")  # the graph comes last
        fields = Pairs([key, text if key in ("format", "version") else parse(text)] for key, text in metadata)
        return Document(
            header, fields, parse(bz2.decompress(body[begin:end]).decode()), bytearray(body[:begin])
        )

    def join(self) -> bytes:
        metadata = Pairs([key, text if isinstance(text, str) else dump(text)] for key, text in self.fields)
        graph = self.graph if isinstance(self.graph, bytes) else bz2.compress(_encode(dump(self.graph)))
        offsets = [len(self.body), len(self.body) + len(graph)]
        place = Pairs([["dtype", "U8"], ["shape", [len(graph)]], ["data_offsets", offsets]])
        table = Pairs([["__metadata__", metadata], *self.header, ["graph", place]])
        self.lie(table)
        text = _encode(dump(table))
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text + bytes(self.body) + graph

    def field(self, name: str) -> Any:
        return get(self.fields, name)


def get(pairs: Pairs, key: str) -> Any:
    """The first value of a key."""
    return next(value for name, value in pairs if name == key)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
