"""What a TensorFlow Lite file holds, as far as an importer needs it, and checked as a whole.

Numbers of fields are those of TensorFlow Lite's schema, version 3 (schema.fbs), and of its metadata schema.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from subbyte.artifact.own_grids import KEY, OwnGrids, from_text
from subbyte.importers.tflite.flatbuffer import Damaged, Table, root
from subbyte.importers.tflite.names import name_of
from subbyte.ir.limits import MAX_ELEMENTS, MAX_EXTENT, MAX_NODES
from subbyte.system.printable import printable

MAX_BYTES = (1 << 31) - 1  # what an offset of the format reaches
MAX_RANK = 8
MAX_ARGUMENTS = 64
MAX_SHOWN = 160  # characters of a name
#: TensorType: what values and constants can be here; the others are numbers only.
TYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8"}


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the file.

    shape: as the file says, batch first; () where it says nothing. dtype: numpy's name, or "type N" for one
    that this package does not know. data: its bytes if it is a constant. scale, zero: float32 and int64
    [1] or [channels], empty without quantization; axis: that of channels. odd: what makes it unusable, or "".
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: np.ndarray | None
    scale: np.ndarray
    zero: np.ndarray
    axis: int
    odd: str = ""


@dataclass(frozen=True, eq=False)
class Operator:
    """kind: a name of BuiltinOperator. inputs: numbers of tensors, -1 for one that is left out. options: None
    if the file has none."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Table | None

    def option(self, field: int, form: str = "i", default: int = 0) -> int:
        """A number of its options; Damaged if it lies outside the file."""
        return default if self.options is None else self.options.number(field, form, default)


@dataclass(frozen=True, eq=False)
class Model:
    """Tensors by number, operators in their order of execution, and the one input.

    normalization: (mean, std) per channel of pixels 0..255, if the metadata of the input says so and nothing
    else. grids: the network's own, where the file says that it has others.
    """

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    input: int
    outputs: tuple[int, ...]
    description: str
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None
    grids: OwnGrids


def read_model(data: bytes) -> Model:
    """The network of a file's bytes. Raises Damaged, also for what is sound but not supported as a whole."""
    model = root(data, b"TFL3")
    graphs = model.tables(2)
    if len(graphs) != 1:
        raise Damaged(f"it holds {len(graphs)} networks; only files with one can be imported")
    if len(model.numbers(8, "u4")) or len(model.numbers(9, "u4")):
        raise Damaged("it keeps weights in other files, which are not read")
    buffers = model.tables(4)
    (graph,) = graphs
    tensors = tuple(_tensor(table, buffers) for table in graph.tables(0))
    codes = [_code(table) for table in model.tables(1)]
    listed = graph.tables(3)
    if len(listed) > MAX_NODES:
        raise Damaged(f"it has {len(listed)} operators; at most {MAX_NODES} are supported")
    operators = tuple(_operator(table, codes, len(tensors)) for table in listed)
    inputs, outputs = (_numbers(graph.numbers(field, "i4"), len(tensors)) for field in (1, 2))
    if len(inputs) != 1:
        raise Damaged(f"it takes {len(inputs)} inputs; only networks of one image can be imported")
    if not outputs:
        raise Damaged("it has no output")
    if min(*inputs, *outputs) < 0:
        raise Damaged("an input or output of the network is left out")
    if tensors[inputs[0]].data is not None:
        raise Damaged("its input is a constant")
    description = printable(model.text(3))[:MAX_SHOWN]
    normalization, grids = _normalization(model, buffers), _own_grids(model, buffers)
    return Model(tensors, operators, inputs[0], outputs, description, normalization, grids)


def _code(table: Table) -> str:
    # the first field is of files before there were more than 127 operators; it holds 127 since then
    kind = name_of(max(table.number(0, "b", 0), table.number(3, "i", 0)))
    custom = printable(table.text(1))[:MAX_SHOWN]
    return f"{kind} ({custom})" if kind == "CUSTOM" else kind


def _operator(table: Table, codes: Sequence[str], tensors: int) -> Operator:
    index = table.number(0, "I", 0)
    if index >= len(codes):
        raise Damaged(f"an operator is of kind {index}, of which it lists {len(codes)}")
    inputs, outputs = (_numbers(table.numbers(field, "i4"), tensors) for field in (1, 2))
    if min(outputs, default=0) < 0:
        raise Damaged(f"an output of an operator {codes[index]} is left out")
    return Operator(codes[index], inputs, outputs, table.table(4))


def _numbers(found: np.ndarray, tensors: int) -> tuple[int, ...]:
    """Numbers of tensors, or -1."""
    if len(found) > MAX_ARGUMENTS:
        raise Damaged(
            f"it has {len(found)} inputs or outputs in one place; at most {MAX_ARGUMENTS} are known"
        )
    if len(found) and not (found.min() >= -1 and found.max() < tensors):
        raise Damaged(f"it refers to tensor {found.max()} of {tensors}")
    return tuple(int(n) for n in found)


def _tensor(table: Table, buffers: Sequence[Table]) -> Tensor:
    name = printable(table.text(3).partition(";")[0])[:MAX_SHOWN]
    shape = table.numbers(0, "i4")
    if len(shape) > MAX_RANK or (len(shape) and not (shape.min() >= 0 and shape.max() <= MAX_ELEMENTS)):
        raise Damaged(f"the shape of tensor {name!r} is not possible")
    kind, odd = table.number(1, "b", 0), ""
    if (table.numbers(7, "i4")[1:MAX_RANK] < 0).any():
        odd = "its size is not fixed"
    if table.table(6) is not None:
        odd = "its zeros are not stored; make the file without sparse tensors"
    if table.number(5, "b", 0):
        odd = "it is a variable, which keeps its value from one image to the next"
    if table.number(10, "I", 0):
        odd = "it lies in another file, which is not read"
    q = table.table(4)
    scale, zero = (np.empty(0, np.float32), np.empty(0, np.int64)) if q is None else _grid(q, name)
    axis = 0 if q is None else q.number(6, "i", 0)
    if q is not None and q.number(4, "B", 0) > 1:
        odd = "its quantization is not one of scales and zero points"
    data = _bytes(table.number(2, "I", 0), buffers)
    sizes = tuple(int(n) for n in shape)
    return Tensor(name, sizes, TYPES.get(kind, f"type {kind}"), data, scale, zero, axis, odd)


def _grid(q: Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    scale, zero = q.numbers(2, "f4"), q.numbers(3, "i8")
    if len(scale) > MAX_EXTENT or len(zero) > MAX_EXTENT:
        raise Damaged(f"tensor {name!r} has {max(len(scale), len(zero))} scales")
    return scale, zero if len(zero) else np.broadcast_to(np.int64(0), scale.shape)


def _bytes(index: int, buffers: Sequence[Table]) -> np.ndarray | None:
    """Of a buffer, uint8; None of an empty one, which tensors have that are no constants."""
    if index >= len(buffers):
        if index == 0:
            return None
        raise Damaged(f"it refers to buffer {index} of {len(buffers)}")
    if buffers[index].number(1, "Q", 0) > 1 or buffers[index].number(2, "Q", 0) > 1:
        raise Damaged("its weights lie behind the part of the file that offsets reach; it is too large")
    data = buffers[index].numbers(0, "u1")
    return data if len(data) else None


def _normalization(
    model: Table, buffers: Sequence[Table]
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Of TFLITE_METADATA: ModelMetadata, SubGraphMetadata, TensorMetadata of the input, ProcessUnit."""
    for entry in model.tables(6):
        if entry.text(0) == "TFLITE_METADATA":
            found = _bytes(entry.number(1, "I", 0), buffers)
            units = [] if found is None else _process_units(found.tobytes())
            if len(units) != 1 or units[0].number(0, "B", 0) != 1:
                return None
            options = units[0].table(1)
            if options is None:
                return None
            mean, std = (tuple(float(x) for x in options.numbers(field, "f4")[:5]) for field in (0, 1))
            sound = all(map(math.isfinite, (*mean, *std))) and all(x > 0 for x in std)
            return (mean, std) if sound and mean and len(mean) == len(std) else None
    return None


def _own_grids(model: Table, buffers: Sequence[Table]) -> OwnGrids:
    """Of the note that our exporter writes, if there is one."""
    for entry in model.tables(6):
        if entry.text(0) == KEY:
            found = _bytes(entry.number(1, "I", 0), buffers)
            return {} if found is None else from_text(found.tobytes().decode("utf-8", "replace"))
    return {}


def _process_units(metadata: bytes) -> list[Table]:
    """Of the one input."""
    graphs = root(metadata, b"M001").tables(3)
    inputs = graphs[0].tables(2) if graphs else []
    return inputs[0].tables(4) if len(inputs) == 1 else []
