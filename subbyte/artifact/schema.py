"""The graph as JSON: what it may hold, and the way from and to a Graph with its arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, cast

from subbyte.artifact.container import DTYPES, ORDER
from subbyte.artifact.json_checks import array, exactly, mapping, one_of, record
from subbyte.artifact.streams import Reader, Writer
from subbyte.artifact.strict_json import parse_json
from subbyte.errors import ArtifactError
from subbyte.ir import Graph, Node, Param, Value
from subbyte.ir.limits import MAX_NODES, MAX_PARAMETERS
from subbyte.quant import Format, QParams, QTensor, uniform_levels
from subbyte.quant.entropy import MOST_TABLES, SYMBOLS
from subbyte.quant.format import WEIGHT_FORMATS
from subbyte.quant.pattern import DENSE
from subbyte.quant.sparsity import NAMES, find_pattern

MAX_FIELDS = 8  # attributes of a node, its parameters of a kind, integers in an attribute
MAX_INPUTS = 64
MAX_LEVELS = 16


@dataclass(frozen=True)
class ValueJson:
    """`grid` is [scale, zero point, bits]; None for float32. `levels`: the codes that occur, if not all."""

    name: str
    shape: list[int]
    grid: list[float | int] | None = None
    levels: list[int] | None = None


@dataclass(frozen=True)
class PlainJson:
    """A parameter stored as it is."""

    dtype: str
    shape: list[int]


@dataclass(frozen=True)
class PackedJson:
    """A QTensor: codes of `bits` bits, one scale per output channel, a code book if it is not plain; the
    pattern of the codes by name, None if they are dense."""

    bits: int
    shape: list[int]
    codebook: bool = False
    pattern: str | None = None

    def format(self, node: str) -> Format:
        """ArtifactError, which names the node, if this version knows no such format."""
        row = WEIGHT_FORMATS.get(f"int{self.bits}")
        pattern = DENSE if self.pattern is None else find_pattern(self.pattern)
        named = self.pattern is not None  # dense codes have no name, and those of a pattern no code book
        if row is None or pattern is None or (named and (pattern == DENSE or self.codebook)):
            text = f"int{self.bits}" + f"+{self.pattern}" * named
            names, end = ", ".join(WEIGHT_FORMATS), " with a code book" * self.codebook
            raise ArtifactError(
                f"node {node!r:.80} has weights of the format {text!r:.80}{end}; this version knows {names}, "
                f"without a code book also with {NAMES}"
            )
        return replace(row, book=self.codebook, pattern=pattern)


@dataclass(frozen=True)
class NodeJson:
    """`plain` and `packed` describe the parameters by role; their arrays follow in that order."""

    name: str
    op: str
    inputs: list[str]
    output: ValueJson
    attrs: dict[str, int | float | str | list[int]] = field(default_factory=dict)
    plain: dict[str, PlainJson] = field(default_factory=dict)
    packed: dict[str, PackedJson] = field(default_factory=dict)


@dataclass(frozen=True)
class GraphJson:
    """The graph of docs/spec/artifact.md. Of a compact file, tables: of frequencies; rest: how many numbers
    it has of each dtype."""

    input: ValueJson
    outputs: list[str]
    nodes: list[NodeJson]
    tables: list[list[int]] | None = None
    rest: list[int] | None = None


_text, _integer = exactly(str), exactly(int)
_grid = array(exactly(int, float), 3, 3)
_integers = array(_integer, 0, MAX_FIELDS)
_attribute = exactly(int, float, str, list)
_value = record(
    ValueJson,
    {
        "name": _text,
        "shape": array(_integer, 0, 3),
        "grid": lambda value, place: None if value is None else _grid(value, place),
        "levels": array(_integer, 4, MAX_LEVELS),
    },
)
_plain = record(PlainJson, {"dtype": one_of("F16", "F32", "I32", "U8"), "shape": array(_integer, 0, 4)})
_packed = record(
    PackedJson,
    {"bits": _integer, "shape": array(_integer, 2, 4), "codebook": exactly(bool), "pattern": _text},
)
_node = record(
    NodeJson,
    {
        "name": _text,
        "op": _text,
        "inputs": array(_text, 0, MAX_INPUTS),
        "output": _value,
        "attrs": mapping(
            lambda value, place: (_integers if type(value) is list else _attribute)(value, place), MAX_FIELDS
        ),
        "plain": mapping(_plain, MAX_FIELDS),
        "packed": mapping(_packed, MAX_FIELDS),
    },
)
_graph = record(
    GraphJson,
    {
        "input": _value,
        "outputs": array(_text, 0, MAX_NODES),
        "nodes": array(_node, 0, MAX_NODES),
        "tables": array(array(_integer, 2, SYMBOLS + 1), 1, MOST_TABLES),
        "rest": array(_integer, len(DTYPES), len(DTYPES)),
    },
)


def parse_graph(text: str) -> GraphJson:
    """Checked JSON of a graph. Raises ArtifactError naming the first field that is wrong."""
    graph: GraphJson = _graph(parse_json(text), "graph")
    if (graph.tables is None) != (graph.rest is None):
        raise ArtifactError("graph needs tables and rest, or neither")
    return graph


def encode(graph: Graph, writer: Writer) -> dict[str, Any]:
    """A verified graph as plain JSON, without tables; its arrays go to `writer`."""
    nodes = [_encode_node(node, graph.value(node.output), writer) for node in graph.nodes]
    return {"input": _encode_value(graph.value(graph.input)), "outputs": list(graph.outputs), "nodes": nodes}


def _encode_value(value: Value) -> dict[str, Any]:
    plain: dict[str, Any] = {"name": value.name, "shape": list(value.shape)}
    if value.q is not None:
        plain["grid"] = [value.q.scale, value.q.zero_point, value.q.bits]
        if value.q.levels is not None:
            plain["levels"] = list(value.q.levels)
    return plain


def _encode_node(node: Node, output: Value, writer: Writer) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    packed: dict[str, Any] = {}
    for role, param in sorted(node.params.items()):
        if isinstance(param, QTensor):
            packed[role] = {"bits": param.bits, "shape": list(param.shape)}
            if param.format.book:
                packed[role]["codebook"] = True
            if param.format.pattern != DENSE:
                packed[role]["pattern"] = param.format.pattern.name
        else:
            plain[role] = {"dtype": writer.append(param), "shape": list(param.shape)}
    for role in packed:
        _append_packed(node.params[role], writer)
    full = {
        "name": node.name,
        "op": node.op,
        "inputs": list(node.inputs),
        "output": _encode_value(output),
        "attrs": {name: list(a) if isinstance(a, tuple) else a for name, a in node.attrs.items()},
        "plain": plain,
        "packed": packed,
    }
    return {key: value for key, value in full.items() if value or key == "inputs"}


def _append_packed(param: Param, writer: Writer) -> None:
    assert isinstance(param, QTensor)
    if writer.coded and param.format.pattern == DENSE:
        writer.dense.append(param)
    else:
        writer.append(param.format.pack(param.codes))
    writer.append(param.scale)
    if param.format.book:
        writer.append(param.levels)


def sizes(graph: GraphJson) -> dict[str, int]:
    """Elements of each dtype that the graph's parameters take up in a file.

    Raises ArtifactError if a shape or format is impossible or the parameters are too many together.
    """
    total = dict.fromkeys(ORDER, 0)
    parameters = 0
    for node in graph.nodes:
        for plain in node.plain.values():
            total[plain.dtype] += _count(node, plain.shape)
            parameters += _count(node, plain.shape)
        for packed in node.packed.values():
            format = packed.format(node.name)
            parameters += _count(node, packed.shape)
            total["U8"] += 0 if _coded(graph, packed) else format.packed_bytes(tuple(packed.shape))
            total["F32"] += packed.shape[0]
            total["I8"] += (1 << packed.bits) if packed.codebook else 0
    if parameters > MAX_PARAMETERS:
        raise ArtifactError(f"it claims {parameters} parameters; at most {MAX_PARAMETERS} are supported")
    if graph.rest is not None and graph.rest != list(total.values()):
        raise ArtifactError(f"it says that it has {graph.rest} numbers beside codes, its graph needs {total}")
    return {dtype: count for dtype, count in total.items() if count}


def _coded(graph: GraphJson, packed: PackedJson) -> bool:
    return graph.tables is not None and packed.pattern is None


def coded_shapes(graph: GraphJson) -> list[tuple[int, int, int]]:
    """Of each weight whose codes are coded, in the file's order: its output channels, the codes of each, and
    their bits; of shapes that `sizes` has accepted."""
    found = [p for node in graph.nodes for _, p in sorted(node.packed.items()) if _coded(graph, p)]
    return [(p.shape[0], math.prod(p.shape[1:]), p.bits) for p in found]


def _count(node: NodeJson, shape: list[int]) -> int:
    if min(shape, default=1) < 1:
        raise ArtifactError(f"node {node.name!r:.80} has a parameter of shape {shape!r:.80}")
    return math.prod(shape)


def decode(graph: GraphJson, reader: Reader) -> Graph:
    """The graph with its arrays. Raises ArtifactError or GraphError; the graph is not yet verified."""
    outputs = [_decode_value(value) for value in (graph.input, *(node.output for node in graph.nodes))]
    values = {value.name: value for value in outputs}
    if len(values) != len(outputs):
        raise ArtifactError("two of its values have the same name")
    nodes = tuple(_decode_node(node, reader) for node in graph.nodes)
    return Graph(graph.input.name, tuple(graph.outputs), values, nodes)


def _decode_value(value: ValueJson) -> Value:
    q = None
    if value.grid is not None:
        levels = None if value.levels is None else tuple(value.levels)
        q = QParams(*cast(tuple[float, int, int], value.grid), levels)  # which checks the types again
    elif value.levels is not None:
        raise ArtifactError(f"value {value.name!r:.80} has levels but no grid")
    return Value(value.name, tuple(value.shape), q)


def _decode_node(node: NodeJson, reader: Reader) -> Node:
    both = node.plain.keys() & node.packed.keys()
    if both:
        raise ArtifactError(f"node {node.name!r:.80} has {min(both)!r:.80} both plain and packed")
    params: dict[str, Param] = {}
    for role, plain in sorted(node.plain.items()):
        params[role] = reader.take(plain.dtype, tuple(plain.shape))
    for role, packed in sorted(node.packed.items()):
        params[role] = _take_packed(packed, packed.format(node.name), reader)
    attrs = {name: tuple(attr) if isinstance(attr, list) else attr for name, attr in node.attrs.items()}
    return Node(node.name, node.op, tuple(node.inputs), node.output.name, attrs, params)


def _take_packed(packed: PackedJson, format: Format, reader: Reader) -> QTensor:
    shape = tuple(packed.shape)
    if reader.coded and format.pattern == DENSE:
        codes = reader.take_codes(shape)
    else:
        codes = format.unpack(reader.take("U8", (format.packed_bytes(shape),)), shape)
    scale = reader.take("F32", shape[:1])
    levels = uniform_levels(format.bits)
    if format.book:
        levels = reader.take("I8", levels.shape)
        if format.with_book(levels) != format:
            raise ArtifactError("a code book says what its absence would say")
    return QTensor(codes, scale, format, levels)
