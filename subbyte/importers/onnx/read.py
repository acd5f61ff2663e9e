"""ONNX files as plain nodes and arrays, read within bounds: nothing in the file is trusted."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from subbyte.artifact.own_grids import KEY, OwnGrids, from_text
from subbyte.errors import InputError, SubbyteError
from subbyte.importers.onnx.values import Constant, OnnxNode
from subbyte.ir.limits import MAX_NAME, MAX_PARAMETERS
from subbyte.system.imports import extra_module
from subbyte.system.printable import printable

#: What a protobuf message can hold; larger networks keep their weights outside of it.
MAX_FILE = 1 << 31
MAX_NODES = 100_000  # with those that only compute constants
MAX_RANK = 8
#: Elements that a byte of the file can stand for: four of a 2-bit type.
PER_BYTE = 4
#: Type of the file to numpy's, and its bits.
_TYPES = {
    "FLOAT": (np.float32, 32),
    "FLOAT16": (np.float32, 32),
    "BFLOAT16": (np.float32, 32),
    "DOUBLE": (np.float64, 64),
    "INT64": (np.int64, 64),
    "INT32": (np.int32, 32),
    "INT16": (np.int16, 16),
    "UINT16": (np.uint16, 16),
    "INT8": (np.int8, 8),
    "UINT8": (np.uint8, 8),
    "INT4": (np.int8, 4),
    "UINT4": (np.uint8, 4),
    "INT2": (np.int8, 2),
    "UINT2": (np.uint8, 2),
    "BOOL": (np.bool_, 1),
}


@dataclass(frozen=True)
class Info:
    """A declared tensor: type as ONNX calls it, "" if it is no tensor; sizes, None where they are open."""

    name: str
    type: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, eq=False)
class Model:
    """A file. constants: initializers by name; opset: of the standard operators; facts: for provenance.
    elements: of all tensors together. grids: the network's own, where the file says that it has others."""

    nodes: tuple[OnnxNode, ...]
    constants: Mapping[str, Constant]
    inputs: tuple[Info, ...]
    outputs: tuple[str, ...]
    opset: int
    facts: Mapping[str, Any]
    elements: int
    grids: OwnGrids = field(default_factory=dict)


def read(path: Path) -> Model:
    """The network in a file, with what it keeps in other files of its folder.

    Raises InputError for a file that is missing, damaged or too large, and for external data outside of the
    file's folder.
    """
    ir, onnx = extra_module("onnx_ir", "onnx"), extra_module("onnx", "onnx")
    data = _bytes(path)
    try:
        proto = onnx.ModelProto.FromString(data)
        with _silent():
            model = ir.serde.deserialize_model(proto)
        ir.external_data.set_base_dir(model.graph, str(path.resolve().parent))
        return _model(path, data, proto, model)
    except SubbyteError:
        raise
    except Exception as error:  # of the libraries: whatever a damaged file makes of them
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} is no ONNX file that can be read: {reason:.200}") from error


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    if path.stat().st_size > MAX_FILE:
        raise InputError(f"{path} has more than {MAX_FILE} bytes, which no ONNX file has")
    return path.read_bytes()


@contextmanager
def _silent() -> Iterator[None]:
    """The library logs what it finds odd in a file; the importer says what stops it."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def _model(path: Path, data: bytes, proto: Any, model: Any) -> Model:
    if len(proto.graph.sparse_initializer):
        raise InputError(f"{path} has sparse tensors, which are not read")
    if proto.functions:
        raise InputError(f"{path} has functions of its own; inline them (onnx.inliner) first")
    if len(proto.graph.node) > MAX_NODES:
        raise InputError(f"{path} has {len(proto.graph.node)} nodes; at most {MAX_NODES} are read")
    names = [tensor.name for tensor in proto.graph.initializer]
    if len(set(names)) != len(names):
        raise InputError(f"{path} has two tensors of the name {_twice(names)!r:.80}")
    graph, reader = model.graph, _Tensors(path, len(data))
    constants = {
        name: reader.constant(value.const_value, name)
        for name, value in graph.initializers.items()
        if value.const_value is not None
    }
    inputs = tuple(_info(value) for value in graph.inputs if value.name not in constants)
    nodes, taken = [], {"input"}
    for number, node in enumerate(graph):
        name = _unique(printable(node.name or "")[: MAX_NAME // 2] or str(node.op_type), number, taken)
        nodes.append(
            OnnxNode(
                name,
                str(node.op_type),
                "" if node.domain == "ai.onnx" else str(node.domain),
                tuple("" if x is None else str(x.name) for x in node.inputs),
                tuple(str(x.name) for x in node.outputs),
                {key: _attribute(attr, reader) for key, attr in node.attributes.items()},
            )
        )
    opset = model.opset_imports.get("", 0)
    producer = f"{proto.producer_name} {proto.producer_version}".strip()
    facts = {
        "file": printable(path.name),
        "sha256": hashlib.sha256(data).hexdigest(),
        "opset": opset,
        "producer": printable(producer)[:MAX_NAME],
    }
    outputs = tuple(str(x.name) for x in graph.outputs)
    notes = [prop.value for prop in proto.metadata_props if prop.key == KEY]
    grids = from_text(notes[0]) if len(notes) == 1 else {}
    return Model(tuple(nodes), constants, inputs, outputs, opset, facts, reader.elements, grids)


def _twice(names: list[str]) -> str:
    return Counter(names).most_common(1)[0][0]


def _unique(name: str, number: int, taken: set[str]) -> str:
    """The name, with the node's number behind it if another has it."""
    while name in taken:
        name = f"{name}_{number}"
    taken.add(name)
    return name


def _info(value: Any) -> Info:
    kind = "" if value.dtype is None else str(value.dtype.name)
    if value.shape is None:
        return Info(str(value.name), kind, None)
    # exporters write open sizes as names, as 0 or as -1
    sizes = tuple(size if isinstance(size, int) and size > 0 else None for size in value.shape)
    return Info(str(value.name), kind, sizes)


def _attribute(attr: Any, reader: _Tensors) -> Any:
    """Its value; None for one that no operator with a rule has (graphs, types, references)."""
    if attr.is_ref():
        return None
    kind = attr.type.name
    if kind == "TENSOR":
        return reader.constant(attr.value, attr.name)
    if kind in ("INTS", "FLOATS", "STRINGS"):
        return tuple(attr.value)
    return attr.value if kind in ("INT", "FLOAT", "STRING") else None


class _Tensors:
    """Reads tensors, none larger than the bytes that are there."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self.elements = 0

    def constant(self, tensor: Any, name: str) -> Constant:
        kind, shape = tensor.dtype.name, tuple(int(n) for n in tensor.shape)
        what = f"{self.path}: tensor {name!r:.80}"
        if kind not in _TYPES:
            raise InputError(f"{what} is {kind}, which is not read; known are {', '.join(_TYPES)}")
        if len(shape) > MAX_RANK or any(n < 0 for n in shape):
            raise InputError(f"{what} has the shape {list(shape)!r:.80}")
        elements = math.prod(shape)
        self.elements += elements
        if self.elements > MAX_PARAMETERS:
            raise InputError(f"{self.path} has more than {MAX_PARAMETERS} numbers in tensors")
        available = self.size
        if hasattr(tensor, "location"):
            available = self._external(tensor, what)
        if elements > available * PER_BYTE:
            raise InputError(f"{what} is {list(shape)}, more than the {available} bytes there can hold")
        array = np.asarray(tensor.numpy())
        if array.shape != shape:
            raise InputError(f"{what} says {list(shape)}, but holds {list(array.shape)}")
        dtype, bits = _TYPES[kind]
        return Constant(np.array(array.astype(dtype), order="C"), bits=bits)

    def _external(self, tensor: Any, what: str) -> int:
        """The bytes of the file that holds a tensor. InputError if it is none of the model's folder."""
        folder = self.path.resolve().parent
        location = str(tensor.location)
        if not location or "\0" in location:
            raise InputError(f"{what} names no file that holds it")
        file = (folder / location).resolve()
        if Path(location).is_absolute() or ".." in Path(location).parts or folder not in file.parents:
            raise InputError(f"{what} lies in {printable(location)!r:.200}, outside of the model's folder")
        if not file.is_file():
            raise InputError(f"{what} lies in {printable(location)!r:.200}, which is no file")
        available = file.stat().st_size
        offset, length, needed = tensor.offset or 0, tensor.length, tensor.nbytes
        if offset < 0 or offset + needed > available or length not in (None, 0, needed):
            raise InputError(
                f"{what} needs {needed} bytes, which {printable(location)!r:.200} does not have where it says"
            )
        return available - offset
