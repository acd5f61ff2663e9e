"""The peers by name: what a user would otherwise run the same network with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from subbyte.benchmark import litert_peer
from subbyte.benchmark import onnxruntime_peer as ort_peer
from subbyte.benchmark import openvino_peer as ov_peer
from subbyte.benchmark.peer import Peer
from subbyte.errors import InputError, SubbyteError
from subbyte.exporters.onnx import to_nchw, to_onnx
from subbyte.ir import Graph

#: Engine to the precisions that a comparison with it covers by default.
ENGINES: dict[str, tuple[str, ...]] = {
    "onnxruntime": ort_peer.PRECISIONS,
    "openvino": ov_peer.PRECISIONS,
    "litert": litert_peer.PRECISIONS,
}


def peer_names(against: Sequence[str]) -> list[tuple[str, str]]:
    """("openvino", "onnxruntime-int8") to (engine, precision) pairs, in order, each once.

    A bare engine means all its precisions. Raises InputError for an unknown name.
    """
    pairs: list[tuple[str, str]] = []
    for name in against:
        engine, _, precision = name.strip().partition("-")
        known = ENGINES.get(engine, ())
        if not known or (precision and precision not in known):
            options = [f"{e}-{p}" for e, precisions in ENGINES.items() for p in precisions]
            raise InputError(f"unknown peer {name!r}; known: {', '.join([*ENGINES, *options])}")
        pairs += [(engine, p) for p in known if precision in ("", p)]
    return list(dict.fromkeys(pairs))


def load_peers(
    graph: Graph,
    against: Sequence[str],
    *,
    threads: int = 1,
    batch: int = 1,
    calibration: Sequence[np.ndarray] = (),
    cache: Path | None = None,
    onnxruntime_method: str = "minmax",
    openvino_preset: str = "performance",
) -> list[Peer]:
    """The float graph in each of the named engines and precisions, ready to run.

    against: names such as "openvino" or "onnxruntime-int8" (see `peer_names`).
    calibration: float32 [N, H, W, C] arrays, preprocessed; INT8 needs some. They are regrouped into
    batches of `batch`. cache: a folder that keeps the INT8 files that the engines' own tools make.

    Raises InputError for an unknown name, a missing package, or too little calibration data.
    """
    wanted = [pair for pair in peer_names(against) if _is_possible(pair, against)]
    if not wanted:
        return []
    images = _full_batches(calibration, batch)
    common: dict[str, Any] = {"threads": threads, "cache": cache}
    loaders: dict[str, Callable[[str], Peer]] = {}
    if any(engine != "litert" for engine, _ in wanted):
        model = to_onnx(graph, batch=batch).SerializeToString()
        common["calibration"] = [to_nchw(group) for group in images]
        loaders["onnxruntime"] = partial(
            ort_peer.onnxruntime_peer, model, **common, method=onnxruntime_method
        )
        loaders["openvino"] = partial(ov_peer.openvino_peer, model, **common, preset=openvino_preset)
    common["calibration"] = images
    loaders["litert"] = partial(litert_peer.litert_peer, graph, batch=batch, **common)
    return [_load(loaders[engine], engine, precision) for engine, precision in wanted]


def _is_possible(pair: tuple[str, str], against: Sequence[str]) -> bool:
    """A bare engine name leaves out what this CPU cannot run; a name given in full does not."""
    return pair != ("openvino", "bf16") or "openvino-bf16" in against or ov_peer.has_bf16()


def _load(loader: Callable[[str], Peer], engine: str, precision: str) -> Peer:
    try:
        return loader(precision)
    except SubbyteError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise InputError(
            f"{engine}-{precision} cannot run this network: {reason[0]}; leave it out of the comparison"
        ) from error


def _full_batches(calibration: Sequence[np.ndarray], batch: int) -> list[np.ndarray]:
    """All images as arrays of exactly `batch`; a remainder is left out."""
    if not len(calibration):
        return []
    images = np.concatenate([np.asarray(x, np.float32) for x in calibration])
    groups = [images[i : i + batch] for i in range(0, len(images) - batch + 1, batch)]
    if not groups:
        raise InputError(f"{len(images)} calibration images do not fill one batch of {batch}")
    return groups
