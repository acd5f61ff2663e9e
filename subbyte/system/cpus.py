"""The CPUs under this process: their name and load, and keeping the process on chosen ones."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from subbyte.errors import InputError

CPUS = Path("/sys/devices/system/cpu")


def cpu_name() -> str:
    """The CPU's model as the system names it, else its architecture."""
    return cpuinfo().get("model name") or platform.processor() or platform.machine()


def load_average() -> float:
    """Processes running or waiting, averaged over the last minute."""
    return os.getloadavg()[0]


def preemptions() -> int:
    """How often this process has been taken off a CPU that others wanted."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def choose_cpus(count: int) -> tuple[int, ...]:
    """`count` CPUs of those this process may use: one per core before any second hardware thread,
    the fastest first.

    Raises InputError if there are fewer. Empty where the system has no CPU affinity.
    """
    if not hasattr(os, "sched_getaffinity"):
        return ()
    allowed = os.sched_getaffinity(0)
    if count > len(allowed):
        raise InputError(f"{count} threads need {count} CPUs, but this process may use {len(allowed)}")
    return tuple(sorted(sorted(allowed, key=_rank)[:count]))


def _rank(cpu: int) -> tuple[int, int, int]:
    siblings = read_line(CPUS / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu)
    second_thread = int(siblings.replace("-", ",").split(",")[0]) != cpu
    frequency = int(read_line(CPUS / f"cpu{cpu}/cpufreq/cpuinfo_max_freq") or 0)
    return second_thread, -frequency, -cpu


@contextmanager
def pinned(cpus: Sequence[int]) -> Iterator[None]:
    """Inside, the calling thread and the threads it starts run on `cpus` only (no-op if empty)."""
    if not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpuinfo() -> dict[str, str]:
    """Fields of the first processor in /proc/cpuinfo (empty elsewhere than on Linux)."""
    first = (read_line(Path("/proc/cpuinfo")) or "").partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def read_line(path: Path) -> str | None:
    """The text of a small file of the system without white space at its ends; None if it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return None
