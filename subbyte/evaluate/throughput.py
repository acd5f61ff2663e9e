"""Pictures per second of several streams: as many callers at a time as CPUs, each on one thread.

Latency is the time of one call on an otherwise idle machine; throughput is what a server gets that always
has pictures waiting.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from subbyte.evaluate.engine_file import Run

ROUNDS = 5


def throughput(
    contestants: Sequence[Sequence[Run]], inputs: Sequence[np.ndarray], seconds: float
) -> np.ndarray:
    """Pictures per second, float64 [contestants, ROUNDS]: they run in turns, A B C, B C A, ...

    contestants: each one's streams, functions that are called at the same time, each in a thread of its
    own. inputs: each one's [batch, ...], in its own layout. seconds: in all.
    """
    speeds = np.zeros((len(contestants), ROUNDS))
    turn = seconds / (ROUNDS * max(1, len(contestants)))
    for i in range(ROUNDS):
        for offset in range(len(contestants)):
            index = (i + offset) % len(contestants)
            speeds[index, i] = _turn(contestants[index], inputs[index], turn)
    return speeds


def _turn(streams: Sequence[Run], x: np.ndarray, seconds: float) -> float:
    """Pictures per second of one turn, after one untimed call of each stream."""

    def calls(run: Run) -> int:
        own, count, end = x.copy(), 0, time.perf_counter() + seconds
        while count == 0 or time.perf_counter() < end:
            run(own)
            count += 1
        return count

    with ThreadPoolExecutor(len(streams)) as pool:
        list(pool.map(lambda run: run(x.copy()), streams))
        begin = time.perf_counter()
        pictures = len(x) * sum(pool.map(calls, streams))
        return pictures / (time.perf_counter() - begin)
