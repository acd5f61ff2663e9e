"""OpenVINO on the CPU: float32, bfloat16, and INT8 made by NNCF's post-training quantization."""

from __future__ import annotations

import logging
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

PRECISIONS = ("fp32", "bf16", "int8")
_HINTS = {"fp32": "f32", "bf16": "bf16"}
PRESETS = ("performance", "mixed")


def openvino_peer(
    model: bytes,
    precision: str,
    *,
    threads: int,
    calibration: Sequence[np.ndarray] = (),
    preset: str = "performance",
    cache: Path | None = None,
) -> Peer:
    """Loads a float ONNX model in OpenVINO, after quantizing it with NNCF if precision is "int8".

    model: the serialized ONNX file, float32 NCHW input. calibration: float32 [N, C, H, W] arrays.
    `preset`: NNCF's "performance" (symmetric activations; its default and the faster one) or "mixed"
    (asymmetric activations; more accurate with SiLU). Latency mode, one stream. "fp32" and "bf16" fix
    the precision of every layer; with "int8" OpenVINO chooses that of the layers left in floating point.
    The environment variable ONEDNN_MAX_CPU_ISA limits the instruction set, as in any OpenVINO program.
    `cache`: a folder that keeps quantized files.

    Raises InputError for an unknown precision or preset, one the CPU lacks, missing calibration data
    or a missing package.
    """
    ov = peer_module("openvino")
    if precision == "bf16" and not has_bf16():
        raise InputError(
            "this CPU has no bfloat16 instructions; compare with openvino-fp32 and openvino-int8"
        )
    if precision in ("fp32", "bf16"):
        return _peer(ov, lambda: ov.Core().read_model(model), precision, threads, len(model))
    if precision != "int8":
        raise InputError(f"OpenVINO runs {' or '.join(PRECISIONS)} here, not {precision!r}")
    if preset not in PRESETS:
        raise InputError(f"NNCF preset {preset!r} is not one of {', '.join(PRESETS)}")
    if not calibration:
        raise InputError("INT8 needs calibration images; give at least one")
    versions = [ov.__version__, peer_module("nncf").__version__]
    settings = {"tool": "nncf", "versions": versions, "preset": preset}
    name = f"openvino-{cache_key(model, calibration, settings)}.xml"
    with cached_file(cache, name, lambda path: _quantize(ov, model, calibration, preset, path)) as path:
        size = path.stat().st_size + path.with_suffix(".bin").stat().st_size
        quantized = ov.Core().read_model(path)
        return _peer(ov, lambda: quantized, precision, threads, size)


def has_bf16() -> bool:
    """Whether OpenVINO computes in bfloat16 on this CPU."""
    ov = peer_module("openvino")
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def open_file(file: EngineFile, *, threads: int, streams: int = 1) -> list[Run]:
    """An IR file for `subbyte.benchmark.opener.opener`; throughput mode if there are several streams."""
    ov = peer_module("openvino")
    compiled = _compile(ov, ov.Core().read_model(file.path), file.precision, threads, streams)
    return [_runner(compiled) for _ in range(streams)]


def _peer(ov: Any, read: Callable[[], Any], precision: str, threads: int, file_bytes: int) -> Peer:
    def write(folder: Path) -> Path:
        path = folder / "model.xml"
        ov.save_model(read(), path, compress_to_fp16=False)
        return path

    run = _runner(_compile(ov, read(), precision, threads, 1))
    return Peer("openvino", precision, ov.__version__.split("-")[0], file_bytes, run, write)


def _compile(ov: Any, model: Any, precision: str, threads: int, streams: int) -> Any:
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": threads * streams,
        "ENABLE_CPU_PINNING": False,  # the benchmark pins the whole process
    }
    if precision != "int8":
        options["INFERENCE_PRECISION_HINT"] = _HINTS[precision]
    return ov.compile_model(model, "CPU", options)


def _runner(compiled: Any) -> Callable[[np.ndarray], Outputs]:
    request = compiled.create_infer_request()
    return lambda x: tuple(request.infer([x], share_inputs=True, share_outputs=True).values())


def _quantize(ov: Any, model: bytes, calibration: Sequence[np.ndarray], preset: str, path: Path) -> None:
    nncf = peer_module("nncf")
    with quiet():
        nncf.set_log_level(logging.ERROR)
        quantized = nncf.quantize(
            ov.Core().read_model(model),
            nncf.Dataset(list(calibration)),
            preset=nncf.QuantizationPreset(preset),
            subset_size=len(calibration),
        )
        ov.save_model(quantized, path, compress_to_fp16=False)
