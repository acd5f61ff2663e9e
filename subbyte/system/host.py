"""The machine a measurement ran on, and keeping the process on chosen CPUs."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict

import subbyte
from subbyte.errors import InputError

#: Beginnings of the CPU flags that decide which kernels an engine picks (x86 and Arm).
RELEVANT_FLAGS = ("avx", "fma", "f16c", "amx", "gfni", "asimd", "i8mm", "bf16", "sve")
_CPUS = Path("/sys/devices/system/cpu")


class Host(BaseModel):
    """What a number has to be read with. Memory in bytes; load averages of the last minute."""

    model_config = ConfigDict(frozen=True)

    cpu: str
    flags: tuple[str, ...]
    cpus: int
    memory: int
    system: str
    python: str
    governor: str | None
    caches: dict[str, str]
    load_before: float
    load_after: float | None = None


def describe_host() -> Host:
    """The machine this process runs on."""
    info = _cpuinfo()
    flags = (info.get("flags") or info.get("Features") or "").split()
    return Host(
        cpu=info.get("model name") or platform.processor() or platform.machine(),
        flags=tuple(sorted(flag for flag in flags if flag.startswith(RELEVANT_FLAGS))),
        cpus=os.cpu_count() or 1,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        governor=_read(_CPUS / "cpu0/cpufreq/scaling_governor"),
        caches=_caches(),
        load_before=load_average(),
    )


def load_average() -> float:
    """Processes running or waiting, averaged over the last minute."""
    return os.getloadavg()[0]


def preemptions() -> int:
    """How often this process has been taken off a CPU that others wanted."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def commit() -> str | None:
    """The git commit of this package's source tree ("-dirty" if changed), None if it is no clone."""
    root = Path(subbyte.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


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
    siblings = _read(_CPUS / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu)
    second_thread = int(siblings.replace("-", ",").split(",")[0]) != cpu
    frequency = int(_read(_CPUS / f"cpu{cpu}/cpufreq/cpuinfo_max_freq") or 0)
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


def _cpuinfo() -> dict[str, str]:
    """Fields of the first processor in /proc/cpuinfo (empty elsewhere than on Linux)."""
    first = (_read(Path("/proc/cpuinfo")) or "").partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _caches() -> dict[str, str]:
    """Data and unified caches of CPU 0, e.g. {"L1": "48K"}."""
    result = {}
    for folder in sorted((_CPUS / "cpu0/cache").glob("index*")):
        level, size = _read(folder / "level"), _read(folder / "size")
        if level and size and _read(folder / "type") != "Instruction":
            result[f"L{level}"] = size
    return result


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
