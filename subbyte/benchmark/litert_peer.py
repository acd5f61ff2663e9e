"""LiteRT (TensorFlow Lite) on the CPU with XNNPACK: float32, and INT8.

TensorFlow's converter needs TensorFlow, so models are made by `exporters.tflite`: INT8 ones from the
network as this package's recipe w8a8 quantizes it, in TensorFlow Lite's 8-bit format. That decides the
accuracy; the speed is that of any INT8 model of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from subbyte.benchmark.engine_file import EngineFile, Run
from subbyte.benchmark.peer import Outputs, Peer
from subbyte.benchmark.quantized_cache import cache_key, cached_file
from subbyte.errors import InputError
from subbyte.exporters.tflite import to_tflite
from subbyte.ir import Graph
from subbyte.system.imports import peer_module
from subbyte.system.quiet import quiet_descriptor
from subbyte.system.version import __version__

PRECISIONS = ("fp32", "int8")
RANGE_IMAGES = 8  # from which the grids of float32 outputs are taken


def litert_peer(
    graph: Graph,
    precision: str,
    *,
    threads: int,
    batch: int = 1,
    calibration: Sequence[np.ndarray] = (),
    cache: Path | None = None,
) -> Peer:
    """Loads a float graph in LiteRT, after quantizing it if precision is "int8".

    calibration: float32 [N, H, W, C] arrays. cache: a folder that keeps quantized files.

    Raises InputError for an unknown precision, a graph with operations that the export lacks, missing
    calibration data or a missing package; INT8 needs torch.
    """
    if precision not in PRECISIONS:
        raise InputError(f"LiteRT runs {' or '.join(PRECISIONS)} here, not {precision!r}")
    model = to_tflite(graph, batch=batch)
    if precision == "fp32":
        return _peer(model, precision, threads)
    if not calibration:
        raise InputError("INT8 needs calibration images; give at least one")
    versions = [_version(), __version__]
    settings = {"tool": "subbyte", "versions": versions, "recipe": "w8a8"}
    name = f"litert-{cache_key(model, calibration, settings)}.tflite"
    with cached_file(cache, name, lambda path: _quantize(graph, batch, calibration, path)) as path:
        return _peer(path.read_bytes(), precision, threads)


def open_file(file: EngineFile, *, threads: int, streams: int = 1) -> list[Run]:
    """A TensorFlow Lite file for `subbyte.benchmark.opener.opener`: one interpreter a stream."""
    return [_runner(_interpreter(threads, model_path=file.path)) for _ in range(streams)]


def _peer(model: bytes, precision: str, threads: int) -> Peer:
    def write(folder: Path) -> Path:
        path = folder / "model.tflite"
        path.write_bytes(model)
        return path

    run = _runner(_interpreter(threads, model_content=model))
    return Peer("litert", precision, _version(), len(model), run, write, channels_last=True)


def _version() -> str:
    return str(peer_module("ai_edge_litert").__version__)


def _interpreter(threads: int, **source: Any) -> Any:
    module = peer_module("ai_edge_litert.interpreter")
    with quiet_descriptor(2):  # it announces its delegate
        made = module.Interpreter(num_threads=threads, **source)
        made.allocate_tensors()
    return made


def _runner(interpreter: Any) -> Callable[[np.ndarray], Outputs]:
    (source,) = [d["index"] for d in interpreter.get_input_details()]
    targets = [d["index"] for d in interpreter.get_output_details()]

    def run(x: np.ndarray) -> Outputs:
        interpreter.set_tensor(source, x)
        interpreter.invoke()
        return tuple(interpreter.get_tensor(index) for index in targets)

    return run


def _quantize(graph: Graph, batch: int, calibration: Sequence[np.ndarray], path: Path) -> None:
    from subbyte.compress import compress
    from subbyte.execute.torch import executor as torch_executor
    from subbyte.recipes import load_recipe

    quantized = compress(graph, load_recipe("w8a8"), calibration)
    outputs = torch_executor.run(quantized, np.concatenate(list(calibration))[:RANGE_IMAGES])
    ranges = {name: (float(y.min()), float(y.max())) for name, y in outputs.items()}
    path.write_bytes(to_tflite(quantized, batch=batch, ranges=ranges))
