"""Graphs as files of other runtimes."""

from __future__ import annotations

import importlib
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Exporter:
    """A row of the table.

    home: the package, imported when it is first used, with the function that exports and with `OPS`, the
    names of the ops it takes; every other one is in `OpDef.lacks` under the exporter's name.
    """

    name: str
    home: str

    @property
    def ops(self) -> Collection[str]:
        """The names of the ops it takes."""
        ops: Collection[str] = importlib.import_module(self.home).OPS
        return ops


EXPORTERS: dict[str, Exporter] = {
    row.name: row
    for row in (
        Exporter("onnx", "subbyte.exporters.onnx"),
        Exporter("tflite", "subbyte.exporters.tflite"),
    )
}
