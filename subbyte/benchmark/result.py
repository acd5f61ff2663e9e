"""The result of a benchmark: plain data that goes to JSON and back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from subbyte.benchmark.machine import Machine
from subbyte.errors import InputError
from subbyte.metrics.output_check import Check
from subbyte.system.whole_file import write_whole

FORMAT = 1


class Spread(BaseModel):
    """Order statistics of a sample."""

    model_config = ConfigDict(frozen=True)

    min: float
    p10: float
    median: float
    p90: float

    @classmethod
    def of(cls, values: np.ndarray) -> Spread:
        """Of any numbers, float64 [n]."""
        low, middle, high = np.percentile(values, (10, 50, 90))
        return cls(min=float(values.min()), p10=float(low), median=float(middle), p90=float(high))


class Timing(BaseModel):
    """One candidate.

    ms: milliseconds of one call (a batch), over all timed calls. round_ms: the median of each round.
    cpu_ms: CPU milliseconds of one call, all threads together, over the rounds; on a busy machine it
    says more than ms does.
    ratio: speedup over the best peer, round by round (None without peers).
    check: its outputs beside what it should compute: for a peer the float network in the numpy
    reference, for an artifact the same artifact in the numpy reference. fidelity: an artifact's
    outputs beside the float network's (None for peers). gmac_per_second: of the network's
    multiply-accumulates. peak: share of the measured peak of integer dot products that those amount to that
    are executed, without skipped blocks of zeros, 0..1 (None if not measured).
    load_ms, resident_bytes: see subbyte.benchmark.footprint. images_per_second: of `streams` callers at
    a time, over rounds. None where not measured.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    precision: str
    version: str
    peer: bool
    isa: str | None
    file_bytes: int
    sha256: str | None
    check: Check
    fidelity: Check | None
    calls: int
    ms: Spread
    cpu_ms: Spread
    round_ms: tuple[float, ...]
    ratio: Spread | None
    gmac_per_second: float
    peak: float | None
    load_ms: float | None = None
    resident_bytes: int | None = None
    images_per_second: Spread | None = None


class Skipped(BaseModel):
    """A peer that was not timed. reason: what its outputs were instead; check: in numbers."""

    model_config = ConfigDict(frozen=True)

    name: str
    precision: str
    version: str
    reason: str
    check: Check


class BenchResult(BaseModel):
    """Everything that a number needs beside it. `macs`: per image. Peaks in GMAC/s per core. `streams`:
    of the throughput, one thread each; None if it was not measured."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    date: str
    commit: str | None
    host: Machine
    threads: int
    streams: int | None = None
    cpus: tuple[int, ...]
    batch: int
    input_shape: tuple[int, ...]
    images: str
    float_network: str
    macs: int
    peak_gmacs: dict[str, float]
    preemptions: int
    best_peer: str | None
    timings: tuple[Timing, ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def fastest_float(self) -> Timing | None:
        """The fastest float32 timing, ours or a peer's; None if there is none."""
        timings = [t for t in self.timings if t.precision == "fp32"]
        return min(timings, key=lambda t: t.ms.median, default=None)

    def to_json(self) -> str:
        """What `from_json` reads."""
        return self.model_dump_json(indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> BenchResult:
        """InputError if the text is no benchmark result of this format."""
        try:
            result = cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(f"this is no benchmark result: {where}: {first['msg']}") from None
        if result.format != FORMAT:
            raise InputError(f"benchmark result has format {result.format}; this version reads {FORMAT}")
        return result

    def save(self, path: Path | str) -> None:
        """Writes the JSON. InputError if it cannot be written."""
        write_whole(Path(path), [self.to_json().encode()])

    def rows(self) -> list[dict[str, Any]]:
        """A table, fastest first: what it is, milliseconds, the ratio to the best peer, the checks."""
        return [_row(t) for t in sorted(self.timings, key=lambda t: t.ms.median)]


def _row(t: Timing) -> dict[str, Any]:
    return {
        "name": t.name,
        "precision": t.precision,
        "peer": t.peer,
        "isa": t.isa,
        "median_ms": t.ms.median,
        "min_ms": t.ms.min,
        "p10_ms": t.ms.p10,
        "p90_ms": t.ms.p90,
        "cpu_ms": t.cpu_ms.median,
        "ratio": t.ratio.median if t.ratio else math.nan,
        "ratio_p10": t.ratio.p10 if t.ratio else math.nan,
        "ratio_p90": t.ratio.p90 if t.ratio else math.nan,
        "gmac_per_second": t.gmac_per_second,
        "peak": t.peak,
        "file_bytes": t.file_bytes,
        "load_ms": t.load_ms,
        "resident_bytes": t.resident_bytes,
        "images_per_second": t.images_per_second.median if t.images_per_second else None,
        "correlation": t.check.correlation,
        "equal": t.check.equal,
        "top1": f"{(t.fidelity or t.check).top1}/{t.check.images}",
    }
