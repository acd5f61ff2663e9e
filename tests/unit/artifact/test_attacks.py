"""The attacks of docs/spec/artifact.md, each refused with one sentence that names the file."""

from __future__ import annotations

import bz2
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from subbyte.artifact import load
from subbyte.artifact.container import MAX_FILE, MAX_HEADER
from subbyte.artifact.file import serialize
from subbyte.artifact.text import MAX_TEXT
from subbyte.errors import ArtifactError
from tests.fuzz.builder import Builder
from tests.fuzz.document import Document, Pairs, dump, get
from tests.fuzz.graphs import seeds, wrap

Attack = Callable[[Document], None]


def original(name: str = "mixed") -> bytes:
    return b"".join(serialize(seeds()[name]))


def put(pairs: Pairs, key: str, value: Any) -> None:
    for pair in pairs:
        if pair[0] == key:
            pair[1] = value
            return
    pairs.append([key, value])


def node(document: Document, index: int = 1) -> Pairs:
    return get(document.graph, "nodes")[index]


def entry(document: Document, name: str) -> Pairs:
    return get(document.header, name)


def refuse(path: Path, data: bytes, message: str) -> None:
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=message) as caught:
        load(path)
    text = str(caught.value)
    assert text.startswith(f"cannot load {path}: ")
    assert text.isprintable()
    assert len(text) < 1000


def set_node(key: str, value: Any) -> Attack:
    return lambda d: put(node(d), key, value)


def set_output(key: str, value: Any) -> Attack:
    return lambda d: put(get(node(d), "output"), key, value)


def set_attr(key: str, value: Any) -> Attack:
    return lambda d: put(get(node(d), "attrs"), key, value)


def set_packed(key: str, value: Any) -> Attack:
    return lambda d: put(get(get(node(d), "packed"), "weight"), key, value)


def set_field(key: str, value: Any) -> Attack:
    return lambda d: put(d.fields, key, value)


def set_plain(role: str, key: str, value: Any) -> Attack:
    return lambda d: put(get(get(node(d), "plain"), role), key, value)


def set_entry(name: str, key: str, value: Any) -> Attack:
    return lambda d: put(entry(d, name), key, value)


def set_graph_entry(key: str, value: Any) -> Attack:
    def attack(document: Document) -> None:
        document.lie = lambda table: put(get(table, "graph"), key, value)

    return attack


def rename_graph(document: Document) -> None:
    def lie(table: Pairs) -> None:
        table[-1][0] = "I8"

    document.lie = lie


def set_graph(data: bytes) -> Attack:
    def attack(document: Document) -> None:
        document.graph = data

    return attack


def cut_graph(document: Document) -> None:
    document.graph = bz2.compress(dump(document.graph).encode())[:-1]


def follow_graph(document: Document) -> None:
    document.graph = bz2.compress(dump(document.graph).encode()) + b"x"


def drop_field(key: str) -> Attack:
    def attack(document: Document) -> None:
        document.fields[:] = [pair for pair in document.fields if pair[0] != key]

    return attack


def swap_places(document: Document) -> None:
    """F32 is said to lie where I32 does, and the reverse."""
    document.header[0][1], document.header[1][1] = document.header[1][1], document.header[0][1]


def swap_names(document: Document) -> None:
    """The numbers of F32 and I32 exchange their names, each with its own honest place."""
    document.header[0][0], document.header[1][0] = document.header[1][0], document.header[0][0]


def overlap(document: Document) -> None:
    """A second tensor over the bytes of the first."""
    document.header.append(["again", document.header[0][1]])


def add_tensor(name: str) -> Attack:
    """One more byte of body, and a tensor that owns it."""

    def attack(document: Document) -> None:
        size = len(document.body)
        place = Pairs([["dtype", "U8"], ["shape", [1]], ["data_offsets", [size, size + 1]]])
        document.header.append([name, place])
        document.body.append(0)

    return attack


def many_tensors(document: Document) -> None:
    for i in range(20):
        add_tensor(str(i))(document)


def gap(document: Document) -> None:
    """The last tensor begins one byte late, and the body is one byte longer."""
    last = document.header[-1][1]
    put(last, "data_offsets", [offset + 1 for offset in get(last, "data_offsets")])
    document.body.append(0)


def misaligned(document: Document) -> None:
    """A byte before the 4-byte numbers, honestly declared."""
    for _, place in document.header:
        put(place, "data_offsets", [offset + 1 for offset in get(place, "data_offsets")])
    document.body.insert(0, 0)
    document.header.insert(0, ["I8", Pairs([["dtype", "I8"], ["shape", [1]], ["data_offsets", [0, 1]]])])


def both_kinds(document: Document) -> None:
    put(get(node(document), "plain"), "weight", Pairs([["dtype", "U8"], ["shape", [1]]]))
    add_tensor("more")(document)
    document.header.pop()
    u8 = entry(document, "U8")
    put(u8, "shape", [get(u8, "shape")[0] + 1])
    get(u8, "data_offsets")[1] += 1


def two_values(document: Document) -> None:
    put(get(node(document, 2), "output"), "name", "v1")


def plain_code_book(document: Document) -> None:
    """A code book that says what its absence would say."""
    put(get(get(node(document), "packed"), "weight"), "codebook", True)
    size = len(document.body)
    place = Pairs([["dtype", "I8"], ["shape", [16]], ["data_offsets", [size, size + 16]]])
    document.header.append(["I8", place])
    document.body += bytes([*range(8), *range(248, 256)])


ATTACKS: list[tuple[str, Attack, str]] = [
    # the metadata
    (
        "newer version",
        set_field("version", "5"),
        "version '5', this program reads '1', '2', '3' and '4'; update subbyte",
    ),
    ("no version", drop_field("version"), "format version None"),
    ("another format", set_field("format", "pt"), "not marked as a subbyte artifact"),
    ("unknown field", set_field("extra", "1"), "must have exactly the fields"),
    ("missing field", drop_field("recipe"), "must have exactly the fields"),
    ("duplicate key", lambda d: node(d).append(["op", "conv2d"]), "names a key twice"),
    ("NaN", set_output("grid", [float("nan"), 0, 8]), "NaN is not a number"),
    ("infinity", set_output("grid", [float("inf"), 0, 8]), "not finite"),
    ("deep", set_field("recipe", "[" * 5000), "malformed JSON"),
    ("recipe list", set_field("recipe", "[]"), "recipe must be a dict"),
    ("classes number", set_field("classes", "3"), "classes must be"),
    ("classes short", set_field("classes", '["a"]'), "classes must be"),
    ("classes escape", set_field("classes", '["\\u001b[2J","b","c"]'), "class name"),
    ("preprocessing empty", set_field("preprocessing", "{}"), "Preprocessing lacks"),
    ("preprocessing unknown", lambda d: put(d.field("preprocessing"), "a\nb", 1), "unknown fields: a\\?b"),
    ("preprocessing crop", lambda d: put(d.field("preprocessing"), "crop_fraction", 1e-300), "in 0.01..1"),
    ("preprocessing mean", lambda d: put(d.field("preprocessing"), "mean", [0.5]), "equally many numbers"),
    ("preprocessing size", lambda d: put(d.field("preprocessing"), "height", 7), "makes 7 x 6 images"),
    # the graph's JSON
    ("unknown node field", set_node("extra", 1), "graph.nodes.1.extra"),
    ("no nodes", lambda d: put(d.graph, "nodes", []), "its graph needs"),
    ("graph is text", set_graph(bz2.compress(b"graph")), "malformed JSON"),
    ("graph is bytes", set_graph(bz2.compress(b"\xff")), "cannot be decompressed"),
    ("graph is a list", set_graph(bz2.compress(b"[]")), "graph: must be an object, not a list"),
    ("graph of depth", set_graph(bz2.compress(b"[" * 10**6)), "malformed JSON"),
    ("graph uncompressed", set_graph(b"{}"), "cannot be decompressed"),
    ("graph expands without end", set_graph(bz2.compress(b" " * (MAX_TEXT + 1))), "longer than it may be"),
    ("graph cut", cut_graph, "truncated"),
    ("graph followed", follow_graph, "truncated, or longer"),
    ("graph renamed", rename_graph, "has no graph"),
    ("graph long", set_graph(bytes(MAX_TEXT + 1)), "has no graph, or one beyond"),
    ("graph dtype", set_graph_entry("dtype", "I8"), "has no graph"),
    ("name number", set_node("name", 3), "graph.nodes.1.name"),
    ("attr bool", set_attr("groups", True), "graph.nodes.1.attrs.groups"),
    ("attr null", set_attr("groups", None), "graph.nodes.1.attrs.groups"),
    ("attr nested", set_attr("stride", [[1, 1]]), "graph.nodes.1.attrs.stride"),
    ("attr text", set_attr("groups", "1"), "groups must be an int"),
    ("long key", set_attr("k" * 5000, 1), "unexpected"),
    ("shape huge", set_output("shape", [10**30, 1, 1]), "in 1..65536"),
    ("shape negative", set_output("shape", [-6, 6, 8]), "in 1..65536"),
    ("shape wrong", set_output("shape", [6, 6, 9]), "but its output says"),
    ("shape long", set_output("shape", [1, 1, 1, 1]), "shape: has 4 items; at most 3"),
    ("grid bits", set_output("grid", [1.0, 0, 64]), "bits must be one of"),
    ("grid zero", set_output("grid", [1.0, 999, 8]), "outside 0..255"),
    ("cycle", set_node("inputs", ["v2"]), "no earlier node makes"),
    ("self", set_node("inputs", ["v1"]), "no earlier node makes"),
    ("two values of one name", two_values, "same name"),
    # the parameters
    ("packed shape huge", set_packed("shape", [2**62, 2**62, 1, 1]), "parameters; at most"),
    ("packed shape larger", set_packed("shape", [8, 3, 3, 4]), "its graph needs"),
    ("packed shape negative", set_packed("shape", [-8, 3, 3, -3]), "parameter of shape"),
    ("packed shape zero", set_packed("shape", [8, 3, 0, 3]), "parameter of shape"),
    ("packed shape flat", set_packed("shape", [8]), "shape: has 1 items; at least 2"),
    ("packed bits", set_packed("bits", 5), "the format 'int5'; this version knows int8"),
    ("packed pattern", set_packed("pattern", "4:2"), "4:2'; this version knows int8.*like 2:4, blocks"),
    ("dense pattern", set_packed("pattern", "dense"), "dense'; this version knows int8"),
    ("packed narrower", set_packed("bits", 2), "its graph needs"),
    ("packed in planes", set_packed("bits", 3), "its graph needs"),
    ("missing code book", set_packed("codebook", True), "its graph needs"),
    ("plain code book", plain_code_book, "what its absence would say"),
    ("plain shape", set_plain("bias", "shape", [7]), "its graph needs"),
    ("plain shape huge", set_plain("bias", "shape", [2**40]), "parameters; at most"),
    ("plain shape zero", set_plain("bias", "shape", [0]), "parameter of shape"),
    ("plain shape deep", set_plain("bias", "shape", [1] * 5), "shape: has 5 items; at most 4"),
    ("plain dtype unknown", set_plain("bias", "dtype", "F64"), "graph.nodes.1.plain.bias.dtype"),
    ("plain dtype other", set_plain("bias", "dtype", "F32"), "its graph needs"),
    ("plain and packed", both_kinds, "both plain and packed"),
    # the tensors
    ("stray tensor", add_tensor("stray"), "its graph needs"),
    ("stray tensor of a dtype", add_tensor("I8"), "its graph needs"),
    ("repeated tensor", add_tensor("F32"), "names a key twice"),
    ("many tensors", many_tensors, "at most 16 tensors"),
    ("dtype unknown", set_entry("I32", "dtype", "F64"), "has dtype 'F64'"),
    ("dtype list", set_entry("I32", "dtype", []), "has dtype"),
    ("dtype of equal size", set_entry("I32", "dtype", "F32"), "its graph needs"),
    ("tensor shape", set_entry("I32", "shape", [9]), "does not fill bytes"),
    ("tensor shape overflow", set_entry("I32", "shape", [2**62]), "has shape"),
    ("tensor of two dimensions", set_entry("I32", "shape", [4, 4]), "has shape"),
    ("tensor shape zero", set_entry("I32", "shape", [0]), "has shape"),
    ("tensor shape bool", set_entry("I32", "shape", [True]), "has shape"),
    ("tensor shape float", set_entry("I32", "shape", [8.0]), "has shape"),
    ("offsets beyond", set_entry("I32", "data_offsets", [0, 2**40]), "has data_offsets"),
    ("offsets reversed", set_entry("I32", "data_offsets", [8, 0]), "does not fill bytes"),
    ("offsets one", set_entry("I32", "data_offsets", [0]), "has data_offsets"),
    ("entry number", lambda d: put(d.header, "I32", 3), "needs exactly dtype, shape and data_offsets"),
    ("entry list", lambda d: put(d.header, "I32", []), "needs exactly dtype, shape and data_offsets"),
    ("entry field", set_entry("I32", "extra", 1), "needs exactly dtype, shape and data_offsets"),
    ("overlap", overlap, "begins at byte"),
    ("places swapped", swap_places, "begins at byte|its graph needs"),
    ("names swapped", swap_names, "its graph needs"),
    ("gap", gap, "begins at byte"),
    ("misaligned", misaligned, "begins at byte"),
]


@pytest.mark.parametrize(("attack", "message"), [pytest.param(a, m, id=i) for i, a, m in ATTACKS])
def test_lies_are_refused(attack: Attack, message: str, tmp_path: Path) -> None:
    document = Document.split(original())
    attack(document)
    refuse(tmp_path / "a.subbyte", document.join(), message)


def scale_entry(document: Document) -> Pairs:
    return next(get(n, "plain") for n in get(document.graph, "nodes") if get(n, "op") == "mul")


def set_scale(key: str, value: Any) -> Attack:
    return lambda d: put(get(scale_entry(d), "channel_scale"), key, value)


def first_scale(value: float) -> Attack:
    """The first factor of the network that has nothing but factors as float32 parameters before it."""

    def attack(document: Document) -> None:
        begin, _ = get(entry(document, "F32"), "data_offsets")
        document.body[begin : begin + 4] = struct.pack("<f", value)

    return attack


def rename_scale(document: Document) -> None:
    scale_entry(document)[0][0] = "scale"


SCALE_ATTACKS: list[tuple[str, Attack, str]] = [
    ("zero", first_scale(0.0), "channel_scale must be within"),
    ("negative", first_scale(-1.0), "channel_scale must be within"),
    ("subnormal", first_scale(1e-40), "channel_scale must be within"),
    ("huge", first_scale(1e6), "channel_scale must be within"),
    ("saturating", first_scale(6e4), "does not fit 16 bits"),
    ("NaN", first_scale(float("nan")), "NaN or infinity"),
    ("infinite", first_scale(float("inf")), "NaN or infinity"),
    ("shape", set_scale("shape", [1, 7]), "channel_scale must be float32"),
    ("size", set_scale("shape", [6]), "its graph needs"),
    ("dtype", set_scale("dtype", "I32"), "its graph needs"),
    ("name", rename_scale, "unexpected"),
    ("version", set_field("version", "1"), "says format version '1', but its graph is of version '2'"),
]


@pytest.mark.parametrize(("attack", "message"), [pytest.param(a, m, id=i) for i, a, m in SCALE_ATTACKS])
def test_lies_about_factors_of_gates_are_refused(attack: Attack, message: str, tmp_path: Path) -> None:
    b = Builder(random.Random(5), (4, 3, 7))
    x = b.quantize("image")
    gate = b.add("global_avg_pool", [x], b.grid())
    graph = b.finish(b.add("mul", [x, gate], b.grid(), None, b.channel_scale(x, 2.0)))
    data = b"".join(serialize(wrap(graph)))
    (tmp_path / "a.subbyte").write_bytes(data)
    load(tmp_path / "a.subbyte")
    document = Document.split(data)
    attack(document)
    refuse(tmp_path / "a.subbyte", document.join(), message)


def levels_of(document: Document) -> list[int]:
    """Of the value that the first table makes: 16 bytes of a grid."""
    return list(get(get(node(document), "output"), "levels"))


def change_levels(change: Callable[[list[int]], Any]) -> Attack:
    return lambda d: put(get(node(d), "output"), "levels", change(levels_of(d)))


def another_code(document: Document) -> None:
    """The first byte of U8 is the first entry of the first table."""
    begin, _ = get(entry(document, "U8"), "data_offsets")
    book = levels_of(document)
    assert document.body[begin] in book
    document.body[begin] = next(code for code in range(256) if code not in book)


def levels_without_grid(document: Document) -> None:
    output = get(node(document), "output")
    output[:] = [pair for pair in output if pair[0] != "grid"]


def without_zero(document: Document) -> None:
    output = get(node(document), "output")
    scale, _, bits = get(output, "grid")
    put(output, "grid", [scale, next(code for code in range(256) if code not in levels_of(document)), bits])


def of_eight_bits(document: Document) -> None:
    output = get(node(document), "output")
    put(output, "grid", [*get(output, "grid")[:2], 8])


def levels_of_a_product(document: Document) -> None:
    """`mul` has no table."""
    product = next(n for n in get(document.graph, "nodes") if get(n, "op") == "mul")
    put(get(product, "output"), "grid", [0.5, 3, 2])
    get(product, "output").append(["levels", [0, 3, 7, 255]])


def levels_of_a_residual(document: Document) -> None:
    summed = next(
        n for n in get(document.graph, "nodes") if len(get(n, "inputs")) == 2 and get(n, "op") == "conv2d"
    )
    put(get(summed, "output"), "grid", [0.5, 3, 2])
    get(summed, "output").append(["levels", [0, 3, 7, 255]])


LEVEL_ATTACKS: list[tuple[str, Attack, str]] = [
    ("unsorted", change_levels(lambda book: [book[1], book[0], *book[2:]]), "16 in ascending order"),
    ("twice", change_levels(lambda book: [book[0], *book[:-1]]), "16 in ascending order"),
    ("too few", change_levels(lambda book: book[:-1]), "16 in ascending order"),
    ("too many", change_levels(lambda book: [*book, 256]), "has 17 items; at most 16"),
    ("none", change_levels(lambda book: []), "has 0 items; at least 4"),
    ("null", change_levels(lambda book: None), "graph.nodes.1.output.levels"),
    ("beyond a byte", change_levels(lambda book: [*book[:-1], 256]), r"ints in 0\.\.255"),
    ("negative", change_levels(lambda book: [-1, *book[1:]]), r"ints in 0\.\.255"),
    ("a float", change_levels(lambda book: [*map(float, book)]), "graph.nodes.1.output.levels.0"),
    ("true", change_levels(lambda book: [True, *book[1:]]), "graph.nodes.1.output.levels.0"),
    ("of 8 bits", of_eight_bits, "8 bits makes every byte"),
    ("without the zero point", without_zero, "must be one of the levels"),
    ("without a grid", levels_without_grid, "has levels but no grid"),
    ("another code in a table", another_code, "which is no level"),
    ("of a product", levels_of_a_product, "cannot make levels, which need a table"),
    ("of a sum with a residual", levels_of_a_residual, "cannot make levels, which need a table"),
]


@pytest.mark.parametrize(("attack", "message"), [pytest.param(a, m, id=i) for i, a, m in LEVEL_ATTACKS])
def test_lies_about_levels_are_refused(attack: Attack, message: str, tmp_path: Path) -> None:
    document = Document.split(original("leveled"))
    attack(document)
    refuse(tmp_path / "a.subbyte", document.join(), message)


def test_the_untouched_document_loads(tmp_path: Path) -> None:
    path = tmp_path / "a.subbyte"
    path.write_bytes(Document.split(original()).join())
    load(path)


def test_padding_of_both_planes_of_three_bits_is_refused(tmp_path: Path) -> None:
    """Five codes: ten bits and six of padding, then five bits and three of padding, nothing else in U8."""
    b = Builder(random.Random(1), (1, 1, 1))
    graph = b.finish(b.qconv(b.quantize("image"), 5, bits=3))
    data = b"".join(serialize(wrap(graph)))
    path = tmp_path / "a.subbyte"
    for bit in range(24):
        document = Document.split(data)
        begin, end = get(entry(document, "U8"), "data_offsets")
        assert end - begin == 3
        document.body[begin + bit // 8] ^= 1 << bit % 8
        if bit in (*range(10, 16), *range(21, 24)):
            refuse(path, document.join(), "bits that are not zero; the file is corrupt")
        else:
            path.write_bytes(document.join())
            load(path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    data = original("narrow")
    for size in [*range(0, 40), *range(40, len(data), 97), len(data) - 1]:
        refuse(tmp_path / "a.subbyte", data[:size], "truncated|malformed|UTF-8|the file holds")


@pytest.mark.parametrize("extra", [1, 8, 1000])
def test_trailing_bytes_are_refused(extra: int, tmp_path: Path) -> None:
    refuse(tmp_path / "a.subbyte", original() + b"\0" * extra, "the file holds")


@pytest.mark.parametrize("length", [MAX_HEADER + 1, 2**63, 2**64 - 1])
def test_a_header_longer_than_the_file_is_refused(length: int, tmp_path: Path) -> None:
    refuse(tmp_path / "a.subbyte", length.to_bytes(8, "little") + original()[8:], "truncated")


def test_a_long_header_is_refused_unread(tmp_path: Path) -> None:
    """The file really is that long (sparse), so only the bound can refuse it."""
    path = tmp_path / "a.subbyte"
    path.write_bytes((MAX_HEADER + 8).to_bytes(8, "little"))
    os.truncate(path, MAX_HEADER + 100)
    with pytest.raises(ArtifactError, match="does not begin with a header"):
        load(path)


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.subbyte"
    path.write_bytes(original())
    os.truncate(path, MAX_FILE + 1)
    with pytest.raises(ArtifactError, match=f"{MAX_FILE + 1} bytes, more than"):
        load(path)


@pytest.mark.parametrize(
    "header", [b"[]", b"3", b'"text"', b"{}", b'{"__metadata__":[]}', b'{"__metadata__":{"a":1}}']
)
def test_other_headers_are_refused(header: bytes, tmp_path: Path) -> None:
    data = len(header).to_bytes(8, "little") + header
    refuse(tmp_path / "a.subbyte", data, "not a JSON object|no metadata")


def test_a_plain_safetensors_file_is_refused(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    path = tmp_path / "a.safetensors"
    save_file({"w": np.zeros(3, np.float32)}, path)
    refuse(path, path.read_bytes(), "plain safetensors file")


@pytest.mark.parametrize("data", [b"PK\x03\x04" + b"\0" * 99, b"\x80\x02}q\x00.", b"<html></html>", b""])
def test_other_files_are_refused(data: bytes, tmp_path: Path) -> None:
    refuse(tmp_path / "a.subbyte", data, "does not begin with a header")
