"""Images per second of several streams: as many callers at a time as CPUs, each on one thread.

Latency is the time of one call on an otherwise idle machine; throughput is what a server gets that always
has images waiting. It is measured in a process of its own: OpenVINO's threads stay on the CPUs that the
process had when it first ran a network.

    python -m subbyte.benchmark.throughput '{"files": [{...}], "shapes": [[...]], "streams": 2, "seconds": 9}'
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import numpy as np

from subbyte.benchmark.engine_file import EngineFile, Run
from subbyte.benchmark.opener import opener
from subbyte.system.own_process import ask

ROUNDS = 5


def throughput_of_files(
    files: Sequence[EngineFile], shapes: Sequence[Sequence[int]], streams: int, seconds: float
) -> np.ndarray:
    """`throughput` of networks' files, each opened with `streams` streams of one thread, in a new process.

    shapes: of each one's input, batch included, in its engine's layout; the values are random.

    Raises InputError if a file cannot be opened there.
    """
    job = {
        "files": [asdict(file) for file in files],
        "shapes": [list(shape) for shape in shapes],
        "streams": streams,
        "seconds": seconds,
    }
    return np.array(ask("subbyte.benchmark.throughput", job, "the throughput", seconds))


def throughput(
    candidates: Sequence[Sequence[Run]], inputs: Sequence[np.ndarray], seconds: float
) -> np.ndarray:
    """Images per second, float64 [candidates, ROUNDS]: they run in turns, A B C, B C A, ...

    candidates: each one's streams, functions that are called at the same time, each in a thread of its
    own. inputs: each one's [batch, ...], in its own layout. seconds: in all.
    """
    speeds = np.zeros((len(candidates), ROUNDS))
    turn = seconds / (ROUNDS * max(1, len(candidates)))
    for i in range(ROUNDS):
        for offset in range(len(candidates)):
            index = (i + offset) % len(candidates)
            speeds[index, i] = _turn(candidates[index], inputs[index], turn)
    return speeds


def _turn(streams: Sequence[Run], x: np.ndarray, seconds: float) -> float:
    """Images per second of one turn, after one untimed call of each stream."""

    def calls(run: Run) -> int:
        own, count, end = x.copy(), 0, time.perf_counter() + seconds
        while count == 0 or time.perf_counter() < end:
            run(own)
            count += 1
        return count

    with ThreadPoolExecutor(len(streams)) as pool:
        list(pool.map(lambda run: run(x.copy()), streams))
        begin = time.perf_counter()
        images = len(x) * sum(pool.map(calls, streams))
        return images / (time.perf_counter() - begin)


def main() -> None:
    """The process that is measured: prints images per second as JSON."""
    job = json.loads(sys.argv[1])
    files = [EngineFile(**file) for file in job["files"]]
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(shape, np.float32) for shape in job["shapes"]]
    opened = [opener(file.engine)(file, threads=1, streams=job["streams"]) for file in files]
    print(json.dumps(throughput(opened, inputs, job["seconds"]).tolist()))


if __name__ == "__main__":
    main()
