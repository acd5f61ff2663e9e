"""ZigZag (package zigzag-dse; Mei et al., IEEE Trans. Computers 70(8), 2021): energy and cycles of a layer.

It searches loop orders and what each memory holds, where the model here has one order. It is given the same
device: array, buffers beside it that cost nothing, SRAM, main memory for weights alone; the same energies.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

from subbyte.device import Layer
from subbyte.device.npu import Npu
from subbyte.errors import InputError
from subbyte.quant.format import INT8, UINT8

#: Bytes of the buffers for inputs and weights between SRAM and array.
BUFFER = 4096


def searched(device: Npu, layer: Layer) -> tuple[float, float]:
    """mJ without static power, and cycles, of the best mapping by energy of a dense convolution of 8 bits,
    its maps on chip. InputError if ZigZag is not installed."""
    if importlib.util.find_spec("zigzag") is None:
        raise InputError("this needs ZigZag: pip install zigzag-dse")
    from zigzag.api import get_hardware_performance_zigzag

    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        files = {"layer": [_layer(layer)], "device": _device(device), "mapping": [_mapping(device)]}
        paths = {name: str(Path(folder) / f"{name}.yaml") for name in files}
        for name, found in files.items():  # JSON is YAML
            Path(paths[name]).write_text(json.dumps(found), "utf-8")
        energy, cycles, _ = get_hardware_performance_zigzag(
            paths["layer"],
            paths["device"],
            paths["mapping"],
            opt="energy",
            dump_folder=folder,
            lpf_limit=5,
            loma_show_progress_bar=False,
        )
    return 1e-9 * energy, cycles


def _layer(layer: Layer) -> dict[str, Any]:
    (rows, columns, outputs), (down, across) = layer.output, layer.kernel
    return {
        "id": 0,
        "operator_type": "Conv",
        "equation": "O[b][k][oy][ox]+=W[k][c][fy][fx]*I[b][c][iy][ix]",
        "dimension_relations": [
            f"ix={layer.stride[1]}*ox+1*fx",
            f"iy={layer.stride[0]}*oy+1*fy",
        ],
        "loop_dims": ["B", "K", "C", "OY", "OX", "FY", "FX"],
        "loop_sizes": [1, outputs, layer.input[2], rows, columns, down, across],
        "operand_precision": {"W": INT8.bits, "I": UINT8.bits, "O": 32, "O_final": UINT8.bits},
        "operand_source": {},
        "pr_loop_dims": ["IY", "IX"],
        "pr_loop_sizes": list(layer.input[:2]),
        "padding": [[down // 2, down // 2], [across // 2, across // 2]],
    }


def _mapping(device: Npu) -> dict[str, Any]:
    mode = device.array.dense[0]
    unrolled = {"D1": [f"K, {mode.outputs}"], "D2": [f"OX, {mode.columns}"], "D3": [f"C, {mode.inputs}"]}
    links = {"O": "O", "W": "I2", "I": "I1"}
    return {"name": "default", "spatial_mapping": unrolled, "memory_operand_links": links}


def _device(device: Npu) -> dict[str, Any]:
    mode, precision = device.array.dense[0], device.precisions[INT8, UINT8]
    rows, columns, depth = device.array.block
    chip = int(8 * device.sram.width)
    main = int(8e3 * device.dram.bandwidth / device.array.clock)
    every = ["I1", "I2", "O"]
    return {
        "name": "device",
        "memories": {
            "inputs": _memory(8 * BUFFER, 0.0, 4096, ["I1"]),
            "weights": _memory(8 * BUFFER, 0.0, 4096, ["I2"]),
            "sums": _memory(32 * rows * columns * depth, 0.0, 4096, ["O"]),
            "sram": _memory(8 * device.sram.size, device.factor * device.sram.energy, chip, every),
            "main": _memory(10**10, device.factor * device.dram.energy, main, ["I2"]),
        },
        "operational_array": {
            "unit_energy": device.factor * precision.energy,
            "unit_area": 1,
            "dimensions": ["D1", "D2", "D3"],
            "sizes": [mode.outputs, mode.columns, mode.inputs],
        },
    }


def _memory(size: int, energy: float, width: int, operands: list[str]) -> dict[str, Any]:
    """size: bits. energy: pJ a byte. width: bits a cycle; buffers of one operand read and write at once."""
    reads = [f"{operand}, tl" for operand in operands] + ["O, th"] * ("O" in operands)
    writes = [f"{operand}, fh" for operand in operands] + ["O, fl"] * ("O" in operands)
    ports = [("rw_port_1", "read_write", [*writes, *reads])]
    if energy == 0.0:
        ports = [("r_port_1", "read", reads), ("w_port_1", "write", writes)]
    return {
        "size": size,
        "r_cost": energy * width / 8,
        "w_cost": energy * width / 8,
        "area": 0,
        "latency": 1,
        "operands": operands,
        "ports": [
            {"name": name, "type": kind, "bandwidth_min": 8, "bandwidth_max": width, "allocation": served}
            for name, kind, served in ports
        ],
        "served_dimensions": ["D1", "D2", "D3"],
    }
