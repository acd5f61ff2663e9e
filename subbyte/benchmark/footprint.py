"""Load time and resident memory of one network in one engine, measured in processes of their own.

    python -m subbyte.benchmark.footprint '{"file": {...}, "threads": 1, "shape": [1, 224, 224, 3]}'

Such a process has imported numpy when it notes its resident memory. It then imports the engine, opens
the file, runs it RUNS times and notes the memory again: the difference is what the network costs a
program that has Python and numpy already. Resident memory is the proportional set size (Pss of
/proc/self/smaps_rollup), which counts pages that several processes share in part. The load time is from
the file, which lies in the system's cache, to ready, without the import.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from subbyte.benchmark.engine_file import EngineFile
from subbyte.benchmark.opener import opener
from subbyte.system.own_process import ask

RUNS = 10
REPEATS = 3


@dataclass(frozen=True)
class Footprint:
    """load_ms: the least of REPEATS processes. resident_bytes: their median; None where the system does
    not tell."""

    load_ms: float
    resident_bytes: int | None


def footprint(file: EngineFile, *, threads: int, shape: Sequence[int]) -> Footprint:
    """Measures `file` with an input of `shape`, in the engine's own layout.

    Raises InputError if it cannot be opened in a process of its own.
    """
    job = {"file": asdict(file), "threads": threads, "shape": list(shape)}
    subject = f"{file.engine} {file.precision}"
    seen = [ask("subbyte.benchmark.footprint", job, subject) for _ in range(REPEATS)]
    resident = [one["resident_bytes"] for one in seen if one["resident_bytes"] is not None]
    return Footprint(
        load_ms=min(one["load_ms"] for one in seen),
        resident_bytes=int(np.median(resident)) if resident else None,
    )


def main() -> None:
    """The process that is measured: prints load_ms and resident_bytes as JSON."""
    job = json.loads(sys.argv[1])
    x = np.random.default_rng(0).standard_normal(job["shape"], np.float32)
    before = resident_bytes()
    open_file = opener(job["file"]["engine"])
    start = time.perf_counter()
    (run,) = open_file(EngineFile(**job["file"]), threads=job["threads"])
    load_ms = 1e3 * (time.perf_counter() - start)
    for _ in range(RUNS):
        run(x)
    after = resident_bytes()
    used = None if before is None or after is None else after - before
    print(json.dumps({"load_ms": load_ms, "resident_bytes": used}))


def resident_bytes() -> int | None:
    """Of this process; None where there is no /proc/self/smaps_rollup."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    (pss,) = [line for line in lines if line.startswith("Pss:")]
    return 1024 * int(pss.split()[1])


if __name__ == "__main__":
    main()
