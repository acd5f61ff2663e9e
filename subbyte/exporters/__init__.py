"""Graphs as files of other runtimes.

write_graph(graph, Path("network.onnx"))
"""

from __future__ import annotations

import importlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.system.whole_file import write_whole


@dataclass(frozen=True)
class Exporter:
    """A row of the table.

    home: the package, imported when it is first used, with `export(graph, *, batch, ...) -> bytes`, which
    raises InputError for what the format cannot hold; with `executed(graph, data) -> dict[str, str]`, in
    which numbers the file's target computes each node, by name; and with `OPS`, the names of the ops it
    takes; every other one is in `OpDef.lacks` under the exporter's name. suffix: of its files. what: it is.
    grids: whether it takes quantized graphs. options: what `export` takes beside the batch size.
    """

    name: str
    home: str
    suffix: str
    what: str = ""
    grids: bool = True
    options: tuple[str, ...] = ()

    @property
    def ops(self) -> Collection[str]:
        """The names of the ops it takes."""
        ops: Collection[str] = importlib.import_module(self.home).OPS
        return ops

    def export(self, graph: Graph, *, batch: int = 1, **options: Any) -> bytes:
        """The file of a verified graph for inputs of `batch` images. InputError for what it cannot hold, and
        for options that are not the row's."""
        for option in options.keys() - set(self.options):
            raise InputError(f"the format {self.name} has no option {option!r}")
        data: bytes = importlib.import_module(self.home).export(graph, batch=batch, **options)
        return data

    def executed(self, graph: Graph, data: bytes) -> dict[str, str]:
        """In which numbers the target of a file that `export` made computes each node: "int8", "float32", or
        both, in words. InputError if the target has to say so itself and is not installed."""
        result: dict[str, str] = importlib.import_module(self.home).executed(graph, data)
        return result


EXPORTERS: dict[str, Exporter] = {
    row.name: row
    for row in (
        Exporter("onnx", "subbyte.exporters.onnx", ".onnx", "ONNX in float32", grids=False),
        Exporter(
            *("qdq", "subbyte.exporters.qdq", ".onnx", "ONNX with QuantizeLinear and DequantizeLinear"),
            options=("ranges", "fused_residuals", "exact", "int4"),
        ),
        Exporter(
            *("tflite", "subbyte.exporters.tflite", ".tflite", "TensorFlow Lite, float32 or INT8"),
            options=("ranges", "integer_io"),
        ),
        Exporter("qonnx", "subbyte.exporters.qonnx", ".qonnx.onnx", "QONNX, for FPGAs"),
    )
}


def exporter_for(graph: Graph, path: Path) -> Exporter:
    """The first row of the path's suffix that takes the graph; of two suffixes that fit the longer is meant.

    InputError if no row has the suffix.
    """
    fitting = [
        row for row in EXPORTERS.values() if path.name.endswith(row.suffix) and path.name != row.suffix
    ]
    if not fitting:
        known = ", ".join(dict.fromkeys(row.suffix for row in EXPORTERS.values()))
        raise InputError(f"{path} must end in one of {known}, for the format to be known")
    suffix = max((row.suffix for row in fitting), key=len)
    rows = [row for row in fitting if row.suffix == suffix]
    coded = any(value.q is not None for value in graph.values.values())
    return next((row for row in rows if row.grids or not coded), rows[0])


def write_graph(graph: Graph, path: Path, *, batch: int = 1, **options: Any) -> None:
    """Writes the file that `exporter_for` knows, whole or not at all.

    Raises InputError for another suffix, for what the format cannot hold, for options that it has not, or if
    the file cannot be written.
    """
    write_whole(path, [exporter_for(graph, path).export(graph, batch=batch, **options)])
