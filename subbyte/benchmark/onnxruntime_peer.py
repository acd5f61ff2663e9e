"""ONNX Runtime on the CPU, float32 and static INT8 (QDQ format) made by its own tools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from subbyte.benchmark.engine_file import EngineFile, Run
from subbyte.benchmark.peer import Outputs, Peer
from subbyte.benchmark.quantized_cache import cache_key, cached_file
from subbyte.errors import InputError
from subbyte.system.imports import peer_module
from subbyte.system.quiet import quiet

PRECISIONS = ("fp32", "int8")
#: What picks the ranges, by ONNX Runtime's names.
CALIBRATION_METHODS = {"minmax": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}


def onnxruntime_peer(
    model: bytes,
    precision: str,
    *,
    threads: int,
    calibration: Sequence[np.ndarray] = (),
    method: str = "minmax",
    cache: Path | None = None,
) -> Peer:
    """Loads a float ONNX model in ONNX Runtime, after quantizing it if precision is "int8".

    model: the serialized ONNX file, float32 NCHW input. calibration: float32 [N, C, H, W] arrays,
    N the model's batch size. INT8 is what ONNX Runtime's guide asks for on x86: its pre-processing
    step, QDQ format, uint8 activations, int8 weights per channel; `method` picks the ranges
    ("minmax", its default, or "percentile", "entropy"). `cache`: a folder that keeps quantized files.

    Raises InputError for an unknown precision or method, missing calibration data or a missing
    package.
    """
    ort = peer_module("onnxruntime")
    if precision == "fp32":
        return _peer(ort, model, precision, threads)
    if precision != "int8":
        raise InputError(f"ONNX Runtime runs {' or '.join(PRECISIONS)} here, not {precision!r}")
    if method not in CALIBRATION_METHODS:
        raise InputError(f"calibration method {method!r} is not one of {', '.join(CALIBRATION_METHODS)}")
    if not calibration:
        raise InputError("INT8 needs calibration images; give at least one")
    settings = {"tool": "onnxruntime", "version": ort.__version__, "method": method}
    name = f"onnxruntime-{cache_key(model, calibration, settings)}.onnx"
    with cached_file(cache, name, lambda path: _quantize(model, calibration, method, path)) as path:
        return _peer(ort, path.read_bytes(), precision, threads)


def open_file(file: EngineFile, *, threads: int, streams: int = 1) -> list[Run]:
    """An ONNX file for `subbyte.benchmark.opener.opener`: one session, in its callers' threads."""
    return [_runner(_session(peer_module("onnxruntime"), file.path, threads))] * streams


def _peer(ort: Any, model: bytes, precision: str, threads: int) -> Peer:
    def write(folder: Path) -> Path:
        path = folder / "model.onnx"
        path.write_bytes(model)
        return path

    run = _runner(_session(ort, model, threads))
    return Peer("onnxruntime", precision, ort.__version__, len(model), run, write)


def _session(ort: Any, model: bytes | str, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    # its idle worker threads must not spin on the cores of the candidate that runs next
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _runner(session: Any) -> Callable[[np.ndarray], Outputs]:
    name = session.get_inputs()[0].name
    return lambda x: tuple(session.run(None, {name: x}))


def _quantize(model: bytes, calibration: Sequence[np.ndarray], method: str, path: Path) -> None:
    onnx = peer_module("onnx")
    tools = peer_module("onnxruntime.quantization")
    preprocess = peer_module("onnxruntime.quantization.shape_inference").quant_pre_process
    prepared = path.with_suffix(".prepared.onnx")
    with quiet():
        preprocess(onnx.load_from_string(model), str(prepared), skip_symbolic_shape=True)
        tools.quantize_static(
            str(prepared),
            str(path),
            _reader(tools, onnx.load_from_string(model).graph.input[0].name, calibration),
            quant_format=tools.QuantFormat.QDQ,
            per_channel=True,
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
            calibrate_method=getattr(tools.CalibrationMethod, CALIBRATION_METHODS[method]),
        )
    prepared.unlink()


def _reader(tools: Any, name: str, calibration: Sequence[np.ndarray]) -> Any:
    arrays = iter(calibration)

    class Reader(tools.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, np.ndarray] | None:
            x = next(arrays, None)
            return None if x is None else {name: x}

    return Reader()
