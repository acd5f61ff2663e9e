"""Ways to degradation the bytes and the claims of a file. Each: (rng, bytes) -> bytes.

Those on documents write the file anew with correct lengths, so that the lie gets past the
container's checks. tests/fuzz/rewrites.py makes graphs that are strange but consistent.
"""

from __future__ import annotations

import bz2
import copy
import math
import random
from collections.abc import Callable
from typing import Any

from subbyte.quant.format import parse_format
from tests.fuzz.document import Document, Pairs, dump, get

Mutation = Callable[[random.Random, bytes], bytes]

NUMBERS = [0, 1, -1, 2, 3, 255, 256, 65536, 65537, 2**31 - 1, 2**31, 2**32, 2**63, 2**64, 10**40, -(2**31)]
FLOATS = [0.0, -0.0, 1e-45, 1e-38, 1e38, 1e300, -1.5, float("nan"), float("inf"), float("-inf"), 0.1]
TEXTS = ["", "x", "image", "v0", "conv2d", "none", "weight", "\x00", "\ud800", "é" * 300, "../../etc/passwd"]
SCALARS: list[Any] = [*NUMBERS, *FLOATS, *TEXTS, None, True, False, [], {}]


# bytes


def flip_header(rng: random.Random, data: bytes) -> bytes:
    end = 8 + int.from_bytes(data[:8], "little")
    return _flip(rng, data, 0, end)


def flip_body(rng: random.Random, data: bytes) -> bytes:
    return _flip(rng, data, 8 + int.from_bytes(data[:8], "little"), len(data))


def _flip(rng: random.Random, data: bytes, begin: int, end: int) -> bytes:
    result = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        result[rng.randrange(begin, end)] ^= 1 << rng.randrange(8)
    return bytes(result)


def truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.choice([rng.randrange(len(data)), rng.randrange(17), len(data) - 1])]


def append(rng: random.Random, data: bytes) -> bytes:
    return data + rng.randbytes(rng.choice([1, 8, 100]))


def overwrite(rng: random.Random, data: bytes) -> bytes:
    size = rng.randint(1, min(64, len(data)))
    begin, source = rng.randrange(len(data) - size + 1), rng.randrange(len(data) - size + 1)
    piece = rng.choice([data[source : source + size], b"\0" * size, b"\xff" * size, rng.randbytes(size)])
    return data[:begin] + piece + data[begin + size :]


def lie_about_length(rng: random.Random, data: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    claim = rng.choice([length + rng.randint(-9, 9), rng.getrandbits(64), 0, len(data), 2**63, 8 << 20])
    return max(0, claim % 2**64).to_bytes(8, "little") + data[8:]


def nest(rng: random.Random, data: bytes) -> bytes:
    document = Document.split(data)
    depth = rng.choice([33, 200, 5000, 100_000])
    text = rng.choice(["[" * depth, "[" * depth + "]" * depth, '{"a":' * depth])
    if rng.random() < 0.5:
        document.graph = bz2.compress(text.encode())
    else:
        rng.choice(document.fields)[1] = text
    return document.join()


def wrap_graph(rng: random.Random, data: bytes) -> bytes:
    """The compressed graph is damaged, cut, followed by more, or expands to very much."""
    document = Document.split(data)
    graph = bz2.compress(dump(document.graph).encode())
    bomb = bz2.compress(b" " * rng.choice([1 << 20, (8 << 20) + 1, 64 << 20]))
    document.graph = rng.choice(
        [graph[: rng.randrange(len(graph))], graph + b"\0", graph + graph, bomb, b"", rng.randbytes(50)]
    )
    return document.join()


# the tensor table


def swap_tensors(rng: random.Random, data: bytes) -> bytes:
    """Two tensors exchange names or places, if there are two."""
    document = Document.split(data)
    if len(document.header) < 2:
        return data
    first, second = rng.sample(document.header, 2)
    index = rng.randrange(2)
    first[index], second[index] = second[index], first[index]
    return document.join()


def lie_about_tensor(rng: random.Random, data: bytes) -> bytes:
    document = Document.split(data)
    document.lie = lambda table: _mutate_tree(rng, rng.choice(table[1:])[1])
    return document.join()


def drop_or_repeat_tensor(rng: random.Random, data: bytes) -> bytes:
    document = Document.split(data)
    index = rng.randrange(len(document.header))
    if rng.random() < 0.5:
        document.header.insert(index, [*document.header[index]])
        return document.join()
    begin, end = get(document.header.pop(index)[1], "data_offsets")
    del document.body[begin:end]
    for _, later in document.header[index:]:
        offsets = get(later, "data_offsets")
        offsets[:] = [offsets[0] - (end - begin), offsets[1] - (end - begin)]
    return document.join()


def resize_tensor(rng: random.Random, data: bytes) -> bytes:
    """A tensor gets more or fewer elements, honestly declared."""
    document = Document.split(data)
    index = rng.randrange(len(document.header))
    entry = document.header[index][1]
    (size,), (begin, end) = get(entry, "shape"), get(entry, "data_offsets")
    width = (end - begin) // size
    change = max(1 - size, rng.choice([-1000, -1, 1, 1000]))
    tail = document.body[end:]
    document.body[end + min(0, change) * width :] = bytes(max(0, change) * width) + tail
    get(entry, "shape")[0] += change
    get(entry, "data_offsets")[1] += change * width
    for _, later in document.header[index + 1 :]:
        offsets = get(later, "data_offsets")
        offsets[:] = [offset + change * width for offset in offsets]
    return document.join()


def _range(rng: random.Random, document: Document) -> tuple[int, int]:
    """Some whole elements of some tensor, as bytes of the body."""
    entry = rng.choice(document.header)[1]
    (size,), (begin, end) = get(entry, "shape"), get(entry, "data_offsets")
    first, last = sorted(rng.choices(range(size + 1), k=2)) if rng.random() < 0.8 else (0, size)
    width = (end - begin) // size
    return begin + first * width, begin + last * width


def extreme_range(rng: random.Random, data: bytes) -> bytes:
    """Neighbouring numbers become one byte or noise: largest weights, scales of 0 or NaN, wild tables."""
    document = Document.split(data)
    begin, end = _range(rng, document)
    fill = rng.choice([b"\0", b"\x7f", b"\x80", b"\xff", b"\x01"]) * (end - begin)
    document.body[begin:end] = rng.choice([fill, rng.randbytes(end - begin)])
    return document.join()


def turn_range(rng: random.Random, data: bytes) -> bytes:
    """Neighbouring numbers move along: the scales, weights or tables of one layer reach another."""
    document = Document.split(data)
    begin, end = _range(rng, document)
    middle = begin + (end - begin) // 8 * 4
    document.body[begin:end] = document.body[middle:end] + document.body[begin:middle]
    return document.join()


def change_codes(rng: random.Random, data: bytes) -> bytes:
    """Codes of one weight, or where a pattern says that they lie: other places, the same twice, out of order,
    too many, bits in the padding."""
    document = Document.split(data)
    weights = packed_weights(document)
    if not weights:
        return data
    begin, end = rng.choice([w[1:] for w in weights if w[0] != "dense"] or [w[1:] for w in weights])
    for _ in range(rng.choice([1, 1, 2, 4])):
        place = rng.choice([end - 1, rng.randrange(begin, end), rng.randrange((begin + 3 * end) // 4, end)])
        byte = document.body[place]
        document.body[place] = rng.choice(
            [byte ^ 1 << rng.randrange(8), byte >> 4 | byte << 4 & 255, 0, 255, document.body[begin]]
        )
    return document.join()


def packed_weights(document: Document) -> list[tuple[str, int, int]]:
    """The pattern of each packed weight, and where its codes, and what a pattern adds to them, lie."""
    found, at = [], 0
    for name, entry in document.header:
        at = get(entry, "data_offsets")[0] if name == "U8" else at
    for node in map(dict, get(document.graph, "nodes")):
        for _, plain in sorted(node.get("plain", [])):
            at += math.prod(get(plain, "shape")) * (get(plain, "dtype") == "U8")
        for _, pairs in sorted(node.get("packed", [])):
            packed = dict(pairs)
            pattern = packed.get("pattern", "dense")
            format = parse_format(f"int{packed['bits']}" + f"+{pattern}" * (pattern != "dense"))
            end = at + format.packed_bytes(tuple(packed["shape"]))
            found.append((pattern, at, end))
            at = end
    return found


# the metadata


def lie_about_graph(rng: random.Random, data: bytes) -> bytes:
    document = Document.split(data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        _mutate_tree(rng, document.graph)
    return document.join()


def lie_about_the_rest(rng: random.Random, data: bytes) -> bytes:
    document = Document.split(data)
    _mutate_tree(rng, document.fields if rng.random() < 0.2 else rng.choice(document.fields)[1])
    return document.join()


def swap_names(rng: random.Random, data: bytes) -> bytes:
    """Inputs, outputs and values trade names: cycles, forward references, dead values."""
    document = Document.split(data)
    slots = [slot for slot in _slots(document.graph) if isinstance(slot.get(), str)]
    for _ in range(rng.choice([1, 1, 2])):
        first, second = rng.sample(slots, 2)
        a, b = first.get(), second.get()
        first.set(b)
        if rng.random() < 0.5:
            second.set(a)
    return document.join()


def nudge_numbers(rng: random.Random, data: bytes) -> bytes:
    """Small steps of numbers, which often leave a graph valid but different."""
    document = Document.split(data)
    numbers = [s for s in _slots(document.graph) if type(s.get()) in (int, float)]
    for _ in range(rng.choice([1, 1, 2, 4])):
        slot = rng.choice(numbers)
        value = slot.get()
        if isinstance(value, int):
            slot.set(value + rng.choice([-1, 1, -value, value, 7]))
        else:
            slot.set(value * 2.0 ** rng.choice([-100, -20, -3, -1, 1, 3, 20, 100]))
    return document.join()


class _Slot:
    """A place in a JSON tree that can be read and replaced."""

    def __init__(self, holder: list[Any], index: int) -> None:
        self.holder, self.index = holder, index

    def get(self) -> Any:
        return self.holder[self.index]

    def set(self, value: Any) -> None:
        self.holder[self.index] = value


def _slots(tree: Any) -> list[_Slot]:
    """Every value below `tree` (keys are not values)."""
    result = []
    if isinstance(tree, Pairs):
        holders: list[tuple[list[Any], int]] = [(pair, 1) for pair in tree]
    else:
        holders = [(tree, i) for i in range(len(tree))] if isinstance(tree, list) else []
    for holder, index in holders:
        result.append(_Slot(holder, index))
        result += _slots(holder[index])
    return result


def _mutate_tree(rng: random.Random, tree: Any) -> None:
    """One random change somewhere in a JSON tree, in place; none if the tree is a scalar."""
    slots = _slots(tree)
    if not slots:
        return
    slot = rng.choice(slots)
    value = slot.get()
    change = rng.randrange(6)
    if change == 0 and isinstance(value, (int, float)) and not isinstance(value, bool):
        slot.set(
            rng.choice([value + 1, value - 1, -value, value * 2, value * 65536, float(value), str(value)])
        )
    elif change == 1 and isinstance(value, list) and value:
        value.pop(rng.randrange(len(value)))
    elif change == 2 and isinstance(value, list) and value:
        value.insert(rng.randrange(len(value) + 1), copy.deepcopy(rng.choice(value)))
    elif change == 3 and isinstance(value, Pairs):
        value.append([rng.choice(TEXTS), copy.deepcopy(rng.choice(SCALARS))])
    elif change == 4:
        slot.set(copy.deepcopy(rng.choice(slots).get()) if rng.random() < 0.5 else [value])
    else:
        slot.set(copy.deepcopy(rng.choice(SCALARS)))


MUTATIONS: dict[str, Mutation] = {
    function.__name__: function
    for function in (
        flip_header,
        flip_body,
        truncate,
        append,
        overwrite,
        lie_about_length,
        nest,
        wrap_graph,
        swap_tensors,
        lie_about_tensor,
        drop_or_repeat_tensor,
        resize_tensor,
        extreme_range,
        turn_range,
        change_codes,
        lie_about_graph,
        lie_about_the_rest,
        swap_names,
        nudge_numbers,
    )
}
