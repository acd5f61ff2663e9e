"""Arm's compiler for Ethos-U, Vela (package ethos-u-vela): cycles of each layer as its report gives them.

Its cycles are an estimate, too: the slowest of array, SRAM, DRAM and flash, block by block, from the very
schedule that it compiles (ethosu/vela/npu_performance.py).
"""

from __future__ import annotations

import csv
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from subbyte.errors import InputError
from subbyte.exporters.tflite import to_tflite
from subbyte.ir import Graph

#: What Vela is told of the devices that have a profile here: accelerator, system, memory.
SETTINGS: Mapping[str, tuple[str, str, str]] = {
    "ethos-u55-256": ("ethos-u55-256", "Ethos_U55_High_End_Embedded", "Shared_Sram"),
    "ethos-u65-512": ("ethos-u65-512", "Ethos_U65_High_End", "Shared_Sram"),
    "ethos-u85-256": ("ethos-u85-256", "Ethos_U85_SYS_DRAM_Mid", "Sram_Only"),
}
#: A range for every output that a file leaves in float32: cycles do not depend on it.
ANY_RANGE = (-16.0, 16.0)


@dataclass(frozen=True)
class Row:
    """An operator of Vela's report. place: "NPU" or "CPU". cycles: the slowest of array and memories, of
    which `array` is the first."""

    operator: str
    name: str
    place: str
    cycles: float
    array: float


def exported(graph: Graph) -> bytes:
    """The network as TensorFlow Lite with int8 input and outputs. InputError for what it cannot hold."""
    real = [node.output for node in graph.nodes if graph.value(node.output).q is None]
    return to_tflite(graph, ranges=dict.fromkeys(real, ANY_RANGE), integer_io=True)


def compiled(data: bytes, device: str) -> list[Row]:
    """Vela's report of a TensorFlow Lite file for a device of SETTINGS. InputError if Vela is not installed,
    or fails."""
    if importlib.util.find_spec("ethosu") is None:
        raise InputError("this needs Arm's compiler: pip install ethos-u-vela")
    accelerator, system, memory = SETTINGS[device]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.tflite"
        path.write_bytes(data)
        words = [sys.executable, "-m", "ethosu.vela", str(path), "--output-dir", folder]
        words += ["--accelerator-config", accelerator, "--system-config", system, "--memory-mode", memory]
        words += ["--config", "Arm/vela.ini", "--verbose-performance"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        reports = list(Path(folder).glob("*per-layer.csv"))
        if done.returncode != 0 or len(reports) != 1:
            lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
            raise InputError(f"Vela fails: {lines[-1]:.200}")
        with reports[0].open(newline="") as file:
            return [
                Row(r["NNG Operator"], r["Name"], r["Target"], float(r["Op Cycles"]), float(r["NPU"]))
                for r in csv.DictReader(file)
            ]


def by_node(graph: Graph, rows: list[Row]) -> dict[str, list[Row]]:
    """The operators of each node, by its name; those whose tensor is no node's output stand under ""."""
    made = {node.output: node.name for node in graph.nodes}
    found: dict[str, list[Row]] = {}
    for row in rows:
        name = row.name
        while name and name not in made:  # parts of a node are called <output>/<part> or <output>_<part>
            name = name[: max(name.rfind("/"), name.rfind("_"), 0)]
        found.setdefault(made.get(name, ""), []).append(row)
    return found
