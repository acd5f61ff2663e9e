"""Graphs as files of other runtimes.

write_graph(graph, Path("network.onnx"))
"""

from __future__ import annotations

import importlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.system.whole_file import write_whole


@dataclass(frozen=True)
class Exporter:
    """A row of the table.

    home: the package, imported when it is first used, with `export(graph, *, batch) -> bytes`, which raises
    InputError for what the format cannot hold, and with `OPS`, the names of the ops it takes; every other one
    is in `OpDef.lacks` under the exporter's name. suffix: of its files.
    """

    name: str
    home: str
    suffix: str

    @property
    def ops(self) -> Collection[str]:
        """The names of the ops it takes."""
        ops: Collection[str] = importlib.import_module(self.home).OPS
        return ops

    def export(self, graph: Graph, *, batch: int = 1) -> bytes:
        """The file of a verified graph for inputs of `batch` images. InputError for what it cannot hold."""
        data: bytes = importlib.import_module(self.home).export(graph, batch=batch)
        return data


EXPORTERS: dict[str, Exporter] = {
    row.name: row
    for row in (
        Exporter("onnx", "subbyte.exporters.onnx", ".onnx"),
        Exporter("tflite", "subbyte.exporters.tflite", ".tflite"),
    )
}


def write_graph(graph: Graph, path: Path, *, batch: int = 1) -> None:
    """Writes the file that the path's suffix names, whole or not at all.

    Raises InputError for another suffix, for what the format cannot hold, or if the file cannot be written.
    """
    for row in EXPORTERS.values():
        if path.suffix == row.suffix:
            write_whole(path, [row.export(graph, batch=batch)])
            return
    known = ", ".join(row.suffix for row in EXPORTERS.values())
    raise InputError(f"{path} must end in one of {known}, for the format to be known")
