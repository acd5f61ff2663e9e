"""The speed protocol: verify, then time, interleaved in one pinned process, against the peers.

    result = bench("model.subbyte", ["onnxruntime", "openvino"])

1. Every candidate runs the same images and is compared with what it should compute. An artifact that
   computes something else is an error, a peer that does is skipped: it is no row.
2. All run in turns (see `interleave`); ratios are taken round by round, so that a disturbance of the
   machine cancels.
3. Where asked for: load time and resident memory of each in processes of their own (see `footprint`),
   and images per second of several streams (see `throughput`).
4. The result holds the host, the CPU flags, versions, hashes and the engine's measured peak.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from subbyte.artifact import Artifact, load
from subbyte.benchmark.candidate import (
    Candidate,
    Verified,
    from_artifact,
    from_peer,
    verify_candidates,
)
from subbyte.benchmark.footprint import Footprint, footprint
from subbyte.benchmark.machine import commit, describe_machine
from subbyte.benchmark.peers import load_peers
from subbyte.benchmark.result import BenchResult, Skipped, Spread, Timing
from subbyte.benchmark.throughput import throughput_of_files
from subbyte.data.synthetic import synthetic_images
from subbyte.errors import InputError
from subbyte.ir import Graph, macs
from subbyte.passes.dequantize import dequantize_graph
from subbyte.system.cpus import choose_cpus, load_average, pinned, preemptions
from subbyte.system.interleave import Samples, interleave

CALIBRATION_IMAGES = 24
CHECK_IMAGES = 2
PEAK_SECONDS = 0.2

Source = str | Path | Artifact


def bench(
    artifacts: Source | Sequence[Source],
    against: Sequence[str] = (),
    *,
    threads: int = 1,
    seconds: float = 10.0,
    batch: int = 1,
    footprints: bool = False,
    streams: int = 0,
    isa: str | None = None,
    float_graph: Graph | None = None,
    images: np.ndarray | None = None,
    calibration: Sequence[np.ndarray] = (),
    cache: Path | None = None,
    notify: Callable[[str], None] = lambda text: None,
) -> BenchResult:
    """Times artifacts of one network, and the same network in other engines.

    artifacts: paths or Artifacts, with equal inputs and outputs. against: peers by name (see
    `load_peers`). They get `float_graph`, or else the first artifact with its weights dequantized.
    seconds: of timing, in all. batch: images per call. footprints: whether to measure load times and
    memory. streams: how many callers at a time, on as many CPUs, to measure the throughput of (for
    `seconds` more); 0: none. isa: the engine's instruction set (its best
    one if None). images: float32 [N, H, W, C], preprocessed, N >= batch, to verify and time with;
    calibration: arrays like it, for the peers' INT8; synthetic images where none are given.
    cache: a folder that keeps the peers' INT8 files. notify: receives a line per stage.

    Raises InputError if an artifact computes something else than its network, for an unknown peer,
    a missing package, too few CPUs or unusable images; ArtifactError for a damaged file.
    """
    sources = [artifacts] if isinstance(artifacts, (str, Path, Artifact)) else list(artifacts)
    if not sources:
        raise InputError("nothing to time; give at least one artifact")
    real = dequantize_graph(_artifact(sources[0]).graph) if float_graph is None else float_graph
    shape = real.value(real.input).shape
    x = _images(images, shape, batch)
    data = calibration or [synthetic_images(shape, CALIBRATION_IMAGES * batch, seed=1)]
    cpus = choose_cpus(threads)
    with pinned(cpus):
        notify("loading the network in every engine")
        candidates = [from_artifact(s, threads=threads, isa=isa) for s in sources]
        peers = load_peers(real, against, threads=threads, batch=batch, calibration=data, cache=cache)
        candidates += [from_peer(peer) for peer in peers]
        notify("comparing every candidate with the reference")
        checked = list(zip(candidates, verify_candidates(candidates, real, x, batch), strict=True))
        skipped = [_skipped(c, v) for c, v in checked if v.fault is not None]
        for one in skipped:
            notify(f"{one.name}-{one.precision} is skipped: it {one.reason}")
        candidates, verified = map(
            list, zip(*(pair for pair in checked if pair[1].fault is None), strict=True)
        )
        held = _footprints(candidates, x[:batch], threads, notify) if footprints else None
        host, before, peaks = describe_machine(), preemptions(), _peaks(candidates)
        notify(f"timing {len(candidates)} candidates in turns for {seconds:g} s")
        samples = interleave([c.bind(x[:batch]) for c in candidates], seconds)
        preempted = preemptions() - before
        peaks = {name: max(peak, _peak(name)) for name, peak in peaks.items()}
    timings = _timings(candidates, samples, verified, sum(macs(real).values()), batch, peaks, threads)
    if held:
        timings = [t.model_copy(update=asdict(f)) for t, f in zip(timings, held, strict=True)]
    if streams:
        with pinned(choose_cpus(streams)):
            notify(f"{streams} streams of each in turns for {seconds:g} s")
            speeds = _throughput(candidates, x[:batch], streams, seconds)
        timings = [
            t.model_copy(update={"images_per_second": Spread.of(speed)})
            for t, speed in zip(timings, speeds, strict=True)
        ]
    return BenchResult(
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        commit=commit(),
        host=host.model_copy(update={"load_after": load_average()}),
        threads=threads,
        streams=streams or None,
        cpus=cpus,
        batch=batch,
        input_shape=shape,
        images="synthetic" if images is None else "given",
        float_network="dequantized from the first artifact" if float_graph is None else "given",
        macs=sum(macs(real).values()),
        peak_gmacs=peaks,
        preemptions=preempted,
        best_peer=_best_peer(candidates, samples),
        timings=tuple(timings),
        skipped=tuple(skipped),
    )


def _skipped(candidate: Candidate, verified: Verified) -> Skipped:
    return Skipped(
        name=candidate.name,
        precision=candidate.precision,
        version=candidate.version,
        reason=verified.fault or "",
        check=verified.own,
    )


def _artifact(source: Source) -> Artifact:
    return source if isinstance(source, Artifact) else load(source)


def _images(given: np.ndarray | None, shape: tuple[int, ...], batch: int) -> np.ndarray:
    """At least CHECK_IMAGES images if there are as many, a multiple of batch."""
    wanted = batch * -(-CHECK_IMAGES // batch)
    if given is None:
        return synthetic_images(shape, wanted)
    if given.dtype != np.float32 or given.shape[1:] != shape or len(given) < batch:
        raise InputError(
            f"images must be float32 [N, {', '.join(map(str, shape))}] with N >= {batch}, "
            f"got {given.dtype} {list(given.shape)}"
        )
    return given[: min(wanted, len(given) // batch * batch)]


def _peaks(candidates: Iterable[Candidate]) -> dict[str, float]:
    return {isa: _peak(isa) for isa in dict.fromkeys(c.isa for c in candidates) if isa is not None}


def _peak(isa: str) -> float:
    """Integer dot products of one core, GMAC/s, as the engine measures it."""
    from subbyte import _native

    return float(_native.peak_dot_gmacs(isa, PEAK_SECONDS))


def _best_peer(candidates: Sequence[Candidate], samples: Sequence[Samples]) -> str | None:
    medians = {
        c.label: float(np.median(s.all)) for c, s in zip(candidates, samples, strict=True) if c.graph is None
    }
    return min(medians, key=lambda label: medians[label]) if medians else None


def _timings(
    candidates: Sequence[Candidate],
    samples: Sequence[Samples],
    verified: Sequence[Verified],
    work: int,
    batch: int,
    peaks: dict[str, float],
    threads: int,
) -> list[Timing]:
    """work: multiply-accumulates of an image."""
    best = _best_peer(candidates, samples)
    rival = next((s for c, s in zip(candidates, samples, strict=True) if c.label == best), None)
    timings = []
    for c, s, v in zip(candidates, samples, verified, strict=True):
        images = batch / float(np.median(s.all)) / 1e9  # per nanosecond
        timings.append(
            Timing(
                name=c.name,
                precision=c.precision,
                version=c.version,
                peer=c.graph is None,
                isa=c.isa,
                file_bytes=c.file_bytes,
                sha256=c.sha256,
                check=v.own,
                fidelity=None if c.graph is None else v.fidelity,
                calls=len(s.all),
                ms=Spread.of(s.all * 1e3),
                cpu_ms=Spread.of(s.cpu * 1e3),
                round_ms=tuple(float(t) for t in s.round_medians * 1e3),
                ratio=None if rival is None else Spread.of(rival.round_medians / s.round_medians),
                gmac_per_second=work * images,
                peak=(c.executed or 0) * images / (peaks[c.isa] * threads) if c.isa in peaks else None,
            )
        )
    return timings


def _footprints(
    candidates: Sequence[Candidate], x: np.ndarray, threads: int, notify: Callable[[str], None]
) -> list[Footprint]:
    results = []
    for c in candidates:
        notify(f"load time and memory of {c.label}")
        with TemporaryDirectory() as folder:
            results.append(footprint(c.write(Path(folder)), threads=threads, shape=c.layout(x).shape))
    return results


def _throughput(candidates: Sequence[Candidate], x: np.ndarray, streams: int, seconds: float) -> np.ndarray:
    with TemporaryDirectory() as folder:
        files = []
        for i, c in enumerate(candidates):
            own = Path(folder) / str(i)
            own.mkdir()
            files.append(c.write(own))
        return throughput_of_files(files, [c.layout(x).shape for c in candidates], streams, seconds)
