"""Small files that ask for much: memory or time that no real network of their size would take.

    python -m tests.fuzz.bombs        loads and opens each in a process of its own, a line of JSON for each

A line holds how it ended and `grown`, the bytes by which the process's memory rose at its highest.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from subbyte.artifact.container import MAX_HEADER
from subbyte.artifact.file import serialize
from subbyte.artifact.strict_json import MAX_PUNCTUATION
from subbyte.artifact.text import MAX_TEXT
from subbyte.ir.limits import MAX_EXTENT, MAX_NODES
from tests.fuzz.builder import Builder
from tests.fuzz.document import Document, dump, get
from tests.fuzz.graphs import seeds, wrap

TIME_LIMIT = 60  # seconds of CPU time, against hanging only
Bomb = Callable[[], bytes]


def many(item: str, marks: int, whole: bool = False) -> str:
    """Comma-separated items, each holding `marks` of the characters that a reader counts, as many as
    the count or, if `whole`, the size of a text allows; a little less, for what stands around them."""
    size = (MAX_TEXT - 2000) // (len(item.encode()) + 1)
    return ",".join([item] * (size if whole else min(size, (MAX_PUNCTUATION - 1000) // (marks + 1))))


def in_graph(place: str, item: str, whole: bool = False) -> Bomb:
    """A graph with one JSON text instead of MARK, and that text repeated items."""

    def make() -> bytes:
        document = Document.split(b"".join(serialize(seeds()["mixed"])))
        node, mark = get(document.graph, "nodes")[1], "MARK"
        targets: dict[str, Any] = {"graph": document.graph, "node": node, "output": get(node, "output")}
        for name in ("attrs", "plain", "packed"):
            targets[name] = get(node, name)
        target, _, key = place.partition(".")
        pairs = targets[target]
        pairs[:] = [pair for pair in pairs if pair[0] != key]
        if key:
            pairs.append([key, mark])
            text = dump(document.graph).replace(f'"{mark}"', "[" + many(item, marks(item), whole) + "]")
        else:
            pairs.append([mark, 0])
            members = many(item, marks(item), whole).split(",")
            text = dump(document.graph).replace(f'"{mark}":0', numbered(members))
        document.graph = _compressed(text)
        return document.join()

    return make


def marks(item: str) -> int:
    return sum(map(item.count, "[{,"))


def numbered(values: list[str]) -> str:
    """Members of an object with different short keys, of at most as many bytes as a text may have."""
    members, size = [], 0
    for i, value in enumerate(values):
        member = f'"{i:x}":{value}'
        size += len(member) + 1
        if size > MAX_TEXT - 20_000:
            break
        members.append(member)
    return ",".join(members)


def _compressed(text: str) -> bytes:
    import bz2

    return bz2.compress(text.encode())


def in_field(name: str, text: Callable[[], str]) -> Bomb:
    """A metadata field with that JSON text."""

    def make() -> bytes:
        document = Document.split(b"".join(serialize(seeds()["mixed"])))
        for pair in document.fields:
            if pair[0] == name:
                pair[1] = text()
        return document.join()

    return make


def wide_text() -> str:
    """As long as a header may be, a character outside the BMP first: four bytes for each in Python."""
    return '{"a":"\U0001f600' + "a" * (MAX_HEADER - 20_000) + '"}'


def tensors() -> bytes:
    """A header of nothing but tensor names."""
    names = numbered(["{}"] * (MAX_PUNCTUATION // 2 - 10))
    text = '{"__metadata__":{},' + names + "}"
    raw = text.encode()
    return len(raw).to_bytes(8, "little") + raw


def chain(shape: tuple[int, ...], nodes: int, kernel: int = 0) -> Bomb:
    """Adds, or depthwise convolutions, one after another."""

    def make() -> bytes:
        b = Builder(random.Random(1), shape)
        x = b.quantize("image")
        q = b.values[x].q
        for _ in range(nodes - 1):
            x = b.qconv(x, shape[2], (kernel, kernel)) if kernel else b.add("add", [x, x], q)
        return b"".join(serialize(wrap(b.finish(x))))

    return make


def alive(channels: int, nodes: int) -> Bomb:
    """All values are needed to the end."""

    def make() -> bytes:
        b = Builder(random.Random(2), (1, 1, channels))
        x = b.quantize("image")
        q = b.values[x].q
        values = [b.add("add", [x, x], q) for _ in range(nodes)]
        for value in values:
            x = b.add("add", [x, value], q)
        return b"".join(serialize(wrap(b.finish(x))))

    return make


def outputs() -> bytes:
    """Every value is an output, every other is a gate's product."""
    b = Builder(random.Random(3), (1, 1, 1))
    x = b.quantize("image")
    q = b.values[x].q
    made = [b.add("mul" if i % 2 else "add", [x, x], q) for i in range(MAX_NODES - 1)]
    return b"".join(serialize(wrap(b.finish(*made))))


def concats() -> bytes:
    """As many edges as a text holds."""
    b = Builder(random.Random(4), (1, 1, 1))
    x = b.quantize("image")
    made = [b.concat(*[x] * 64) for _ in range(6000)]
    return b"".join(serialize(wrap(b.finish(made[-1], made[0]))))


def halo() -> bytes:
    """Columns of one pixel's width, padded to 31 by depthwise layers."""
    b = Builder(random.Random(5), (8192, 1, 1))
    x = b.quantize("image")
    made = [b.qconv(x, 256, bits=2) for _ in range(17)]
    ends = [b.qconv(m, 256, (1, 16), stride=MAX_EXTENT, groups=256, bits=2, pad=(0, 0, 15, 15)) for m in made]
    return b"".join(serialize(wrap(b.finish(*ends))))


def lanes() -> bytes:
    """Groups of one channel, each of which a kernel pads to a vector of sixteen."""
    b = Builder(random.Random(6), (1, 1, 32768))
    x = b.quantize("image")
    for _ in range(8):
        x = b.qconv(x, 32768, (8, 8), groups=32768, bits=2, residual=x, pad=(3, 4, 3, 4))
    return b"".join(serialize(wrap(b.finish(x))))


def real_lanes() -> bytes:
    b = Builder(random.Random(7), (1, 1, 16384))
    x = "image"
    for _ in range(8):
        x = b.fconv(x, 2 * 16384 if b.shape(x)[2] == 16384 else 16384, 3, groups=16384, act="none", half=True)
    return b"".join(serialize(wrap(b.finish(x))))


BOMBS: dict[str, Bomb] = {
    "numbers as outputs": in_graph("graph.outputs", "0"),
    "numbers as outputs, whole text": in_graph("graph.outputs", "0", whole=True),
    "objects as nodes": in_graph("graph.nodes", "{}"),
    "texts as nodes": in_graph("graph.nodes", '""'),
    "unknown fields of the graph": in_graph("graph", "0"),
    "unknown fields of a node": in_graph("node", "0"),
    "unknown fields of a value": in_graph("output", "0"),
    "numbers as inputs": in_graph("node.inputs", "0"),
    "lists as inputs": in_graph("node.inputs", "[]"),
    "lists as inputs, whole text": in_graph("node.inputs", "[]", whole=True),
    "texts in an attribute": in_graph("attrs.stride", '""'),
    "texts in an attribute, whole text": in_graph("attrs.stride", '""', whole=True),
    "numbers in an attribute": in_graph("attrs.stride", "1.5"),
    "attributes": in_graph("attrs", "null"),
    "parameters": in_graph("plain", "{}"),
    "packed parameters": in_graph("packed", "[]"),
    "texts in a shape": in_graph("output.shape", '""'),
    "numbers in a grid": in_graph("output.grid", "123456"),
    "lists in the recipe": in_field("recipe", lambda: '{"a":[' + many("[]", 1) + "]}"),
    "lists in the recipe, whole text": in_field("recipe", lambda: '{"a":[' + many("[]", 1, True) + "]}"),
    "objects in the recipe": in_field("recipe", lambda: '{"a":[' + many('{"":0}', 1) + "]}"),
    "objects in the provenance": in_field(
        "provenance", lambda: "{" + numbered(["{}"] * (MAX_PUNCTUATION // 2 - 1000)) + "}"
    ),
    "wide text in the provenance": in_field("provenance", wide_text),
    "numbers as classes": in_field("classes", lambda: "[" + many("0.5", 0) + "]"),
    "numbers as mean": in_field("preprocessing", lambda: '{"mean":[' + many("0.5", 0) + "]}"),
    "tensor names": tensors,
    "adds": chain((1, 1, 1), MAX_NODES),
    "tall adds": chain((8192, 73, 1), MAX_NODES),
    "tall convolutions": chain((8192, 73, 1), 600, 3),
    "many tall convolutions": chain((8192, 73, 1), MAX_NODES, 3),
    "values alive": alive(1, MAX_NODES // 2 - 1),
    "wide values alive": alive(8192, MAX_NODES // 2 - 1),
    "outputs": outputs,
    "edges": concats,
    "halo": halo,
    "vectors of groups": lanes,
    "vectors of float groups": real_lanes,
}


def attempt(path: Path) -> dict[str, Any]:
    """How loading and opening a file ends. work, rows: what planning looked at, and what it kept."""
    from subbyte import Session, load
    from subbyte.errors import SubbyteError

    before = memory("VmRSS")
    result: dict[str, Any] = {}
    try:
        artifact = load(path)
        session = Session(artifact)
        result = {"end": "opened", "work": session._model.region_work, "message": ""}
        result["rows"] = sum(row["row_tiles"] for row in session.plan())
    except SubbyteError as error:
        result = {"end": "refused", "message": str(error)}
    return result | {"grown": memory("VmHWM") - before}


def memory(name: str) -> int:
    """Bytes, from the kernel's count for this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def main() -> None:
    import subbyte.execute.native  # noqa: F401  so that no child counts it as its own

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bomb.subbyte"
        for name in sys.argv[1:] or BOMBS:
            if os.fork() == 0:  # what making a file takes is not what reading it takes
                path.write_bytes(BOMBS[name]())
                os._exit(0)
            os.wait()
            if os.fork() == 0:
                resource.setrlimit(resource.RLIMIT_CPU, (TIME_LIMIT, TIME_LIMIT))
                print(json.dumps({"name": name, "size": path.stat().st_size, **attempt(path)}), flush=True)
                os._exit(0)
            os.wait()


if __name__ == "__main__":
    main()
