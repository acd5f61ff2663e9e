"""The time of a network on this machine, in a second, and whether other programs were in the way.

`subbyte bench` compares engines, for which bench.py has the protocol.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from subbyte.execute.native import Session
from subbyte.system.cpus import load_average, preemptions
from subbyte.system.interleave import interleave

SECONDS = 0.5
#: Share of the runs that may be interrupted on a machine that has nothing else to do.
INTERRUPTED = 0.05


@dataclass(frozen=True)
class QuickTime:
    """Milliseconds of one image: median and fastest of `runs`. busy: other programs took the CPUs."""

    median: float
    fastest: float
    runs: int
    busy: bool


def quick_time(session: Session) -> QuickTime:
    """Runs standard normal noise for about SECONDS."""
    shape = session.graph.value(session.graph.input).shape
    noise = np.random.default_rng(0).standard_normal((1, *shape), np.float32)
    before = preemptions()
    (found,) = interleave([lambda: session.run(noise)], SECONDS)
    times = 1e3 * found.all
    busy = preemptions() - before > INTERRUPTED * len(times) or load_average() > (os.cpu_count() or 1)
    return QuickTime(float(np.median(times)), float(times.min()), len(times), busy)
