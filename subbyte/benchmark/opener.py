"""How each engine opens its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from subbyte.benchmark.engine_file import EngineFile, Run


def opener(engine: str) -> Callable[..., list[Run]]:
    """Imports an engine; gives the function (EngineFile, threads=, streams=1) that opens a file with it.

    That returns `streams` functions of float32 arrays in the engine's own layout, which may run at the
    same time, each on `threads` threads.
    """
    if engine == "subbyte":
        from subbyte.execute.native import Session

        def open_artifact(file: EngineFile, *, threads: int, streams: int = 1) -> list[Run]:
            session = Session(Path(file.path), threads=threads, isa=file.isa, streams=streams)
            return [session.run] * streams

        return open_artifact
    from subbyte.benchmark import litert_peer, onnxruntime_peer, openvino_peer
    from subbyte.system.imports import peer_module

    module, open_file = {
        "onnxruntime": ("onnxruntime", onnxruntime_peer.open_file),
        "openvino": ("openvino", openvino_peer.open_file),
        "litert": ("ai_edge_litert.interpreter", litert_peer.open_file),
    }[engine]
    peer_module(module)
    return open_file
