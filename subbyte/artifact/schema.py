"""The graph as JSON: strict models, and the way from and to a Graph with its tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from subbyte.artifact.container import TensorInfo
from subbyte.artifact.strict_json import parse_json
from subbyte.errors import ArtifactError
from subbyte.ir import Graph, Node, Param, Value
from subbyte.ir.limits import MAX_NODES, MAX_PARAMETERS
from subbyte.quant import QParams, QTensor, uniform_levels
from subbyte.quant.packing import pack, packed_size, unpack

Tensors = dict[str, np.ndarray]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class ValueJson(_Strict):
    """`grid` is [scale, zero point, bits]; absent for float32."""

    name: str
    shape: tuple[int, ...] = Field(max_length=3)
    grid: tuple[float, int, int] | None = None


class PackedJson(_Strict):
    """A QTensor: tensors `<node>.<role>`, `.scale`, and `.levels` if it has a code book of its own."""

    bits: int
    shape: tuple[int, ...] = Field(min_length=2, max_length=4)
    codebook: bool = False


class NodeJson(_Strict):
    """`plain` lists the parameters stored as they are, `packed` describes the packed ones."""

    name: str
    op: str
    inputs: tuple[str, ...]
    output: ValueJson
    attrs: dict[str, int | float | str | tuple[int, ...]] = {}
    plain: tuple[str, ...] = ()
    packed: dict[str, PackedJson] = {}


class GraphJson(_Strict):
    input: ValueJson
    outputs: tuple[str, ...]
    nodes: tuple[NodeJson, ...] = Field(max_length=MAX_NODES)


def parse_graph(text: str) -> GraphJson:
    """Validated JSON of a graph. Raises ArtifactError naming the first field that is wrong."""
    parse_json(text)
    try:
        return GraphJson.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ArtifactError(f"graph.{where}: {first['msg']}") from None


def encode(graph: Graph) -> tuple[dict[str, Any], Tensors]:
    """A verified graph as plain JSON and the tensors to store beside it."""
    tensors: Tensors = {}
    nodes = [_encode_node(node, graph.value(node.output), tensors) for node in graph.nodes]
    value = _encode_value(graph.value(graph.input))
    return {"input": value, "outputs": list(graph.outputs), "nodes": nodes}, tensors


def _encode_value(value: Value) -> dict[str, Any]:
    plain: dict[str, Any] = {"name": value.name, "shape": list(value.shape)}
    if value.q is not None:
        plain["grid"] = [value.q.scale, value.q.zero_point, value.q.bits]
    return plain


def _encode_node(node: Node, output: Value, tensors: Tensors) -> dict[str, Any]:
    plain: list[str] = []
    packed: dict[str, Any] = {}
    for role, param in sorted(node.params.items()):
        key = f"{node.name}.{role}"
        if isinstance(param, QTensor):
            packed[role] = _encode_packed(key, param, tensors)
        else:
            plain.append(role)
            tensors[key] = param
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


def _encode_packed(key: str, param: QTensor, tensors: Tensors) -> dict[str, Any]:
    tensors[key] = pack(param.codes, param.bits)
    tensors[f"{key}.scale"] = param.scale
    if param.is_uniform:
        return {"bits": param.bits, "shape": list(param.shape)}
    tensors[f"{key}.levels"] = param.levels
    return {"bits": param.bits, "shape": list(param.shape), "codebook": True}


def check_table(graph: GraphJson, table: Mapping[str, TensorInfo]) -> None:
    """Every tensor that the graph names exists with the right dtype and size, and no other does.

    Uses the header only, before a byte of the body is read. Raises ArtifactError.
    """
    unused = dict(table)
    parameters = 0
    for node in graph.nodes:
        for role in node.plain:
            parameters += math.prod(_take(unused, f"{node.name}.{role}").shape)
        for role, packed in node.packed.items():
            parameters += _check_packed(f"{node.name}.{role}", packed, unused)
    if unused:
        raise ArtifactError(f"tensor {next(iter(unused))!r:.80} belongs to no node")
    if parameters > MAX_PARAMETERS:
        raise ArtifactError(f"it has {parameters} parameters; at most {MAX_PARAMETERS} are supported")


def _take(unused: dict[str, TensorInfo], key: str) -> TensorInfo:
    info = unused.pop(key, None)
    if info is None:
        raise ArtifactError(f"tensor {key!r:.80} is missing or used twice")
    return info


def _check_packed(key: str, packed: PackedJson, unused: dict[str, TensorInfo]) -> int:
    count = math.prod(packed.shape)
    if packed.bits not in (2, 4, 8) or min(packed.shape) < 1:
        raise ArtifactError(f"tensor {key!r:.80} has {packed.bits} bits and shape {packed.shape!r:.80}")
    wanted = {key: ("u1", packed_size(count, packed.bits)), f"{key}.scale": ("<f4", packed.shape[0])}
    if packed.codebook:
        wanted[f"{key}.levels"] = ("i1", 1 << packed.bits)
    for name, (dtype, size) in wanted.items():
        info = _take(unused, name)
        if info.dtype != np.dtype(dtype) or info.shape != (size,):
            raise ArtifactError(f"tensor {name!r:.80} must be {np.dtype(dtype)} [{size}]")
    return count


def decode(graph: GraphJson, tensor: Callable[[str], np.ndarray]) -> Graph:
    """The graph, its tensors fetched by name. Raises ArtifactError or GraphError; not yet verified."""
    outputs = [_decode_value(value) for value in (graph.input, *(node.output for node in graph.nodes))]
    values = {value.name: value for value in outputs}
    if len(values) != len(outputs):
        raise ArtifactError("two of its values have the same name")
    nodes = tuple(_decode_node(node, tensor) for node in graph.nodes)
    return Graph(graph.input.name, graph.outputs, values, nodes)


def _decode_value(value: ValueJson) -> Value:
    return Value(value.name, value.shape, None if value.grid is None else QParams(*value.grid))


def _decode_node(node: NodeJson, tensor: Callable[[str], np.ndarray]) -> Node:
    params: dict[str, Param] = {role: tensor(f"{node.name}.{role}") for role in node.plain}
    for role, packed in node.packed.items():
        key = f"{node.name}.{role}"
        levels = tensor(f"{key}.levels") if packed.codebook else uniform_levels(packed.bits)
        codes = unpack(tensor(key), packed.shape, packed.bits)
        params[role] = weight = QTensor(codes, tensor(f"{key}.scale"), packed.bits, levels)
        if packed.codebook and weight.is_uniform:
            raise ArtifactError(f"tensor {key!r:.80} stores the plain code book")
    return Node(node.name, node.op, node.inputs, node.output.name, node.attrs, params)
