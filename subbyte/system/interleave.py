"""Timing of several candidates in turns, so that whatever disturbs the machine hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

MIN_ROUNDS = 5
SLICE_SECONDS = 0.02  # what one candidate's turn lasts at least
MIN_CALLS = 3  # timed calls of a turn at least
WARM_UP_CALLS = 3

Clock = Callable[[], float]


@dataclass(frozen=True)
class Samples:
    """One candidate's seconds.

    rounds: wall-clock seconds of every timed call, an array per round. cpu: CPU seconds of the whole
    process per call, one figure per round: all threads, and nothing of what other programs took.
    """

    rounds: tuple[np.ndarray, ...]
    cpu: np.ndarray

    @property
    def all(self) -> np.ndarray:
        """Seconds, float64 [calls], of all rounds."""
        return np.concatenate(self.rounds)

    @property
    def round_medians(self) -> np.ndarray:
        """Seconds, float64 [rounds]."""
        return np.array([np.median(r) for r in self.rounds])


def interleave(
    runs: Sequence[Callable[[], object]],
    seconds: float,
    *,
    clock: Clock = time.perf_counter,
    cpu_clock: Clock = time.process_time,
) -> list[Samples]:
    """Times every function of `runs` in rounds: A B C, B C A, C A B, ...

    A turn is one untimed call, which brings the candidate's weights back into the caches and wakes
    its threads, then as many timed calls as last SLICE_SECONDS (at least MIN_CALLS). The number of
    rounds is what fits in `seconds` in all (at least MIN_ROUNDS); each round starts with another
    candidate.
    """
    calls = [_calls_per_turn(run, clock) for run in runs]
    collected: list[list[np.ndarray]] = [[] for _ in runs]
    cpu: list[list[float]] = [[] for _ in runs]
    start, count = clock(), 0
    while count < MIN_ROUNDS or clock() - start < seconds:
        for offset in range(len(runs)):
            index = (count + offset) % len(runs)
            runs[index]()
            before = cpu_clock()
            collected[index].append(_timed(runs[index], calls[index], clock))
            cpu[index].append((cpu_clock() - before) / calls[index])
        count += 1
    return [Samples(tuple(rounds), np.array(used)) for rounds, used in zip(collected, cpu, strict=True)]


def _calls_per_turn(run: Callable[[], object], clock: Clock) -> int:
    """From the fastest of a few first calls, which also serve as the candidate's warm-up."""
    run()
    fastest = float(_timed(run, WARM_UP_CALLS, clock).min())
    return max(MIN_CALLS, round(SLICE_SECONDS / fastest)) if fastest > 0 else MIN_CALLS


def _timed(run: Callable[[], object], calls: int, clock: Clock) -> np.ndarray:
    times = np.empty(calls)
    for i in range(calls):
        start = clock()
        run()
        times[i] = clock() - start
    return times
