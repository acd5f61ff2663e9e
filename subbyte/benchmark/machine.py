"""The machine and the source tree that a measurement was made with."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from subbyte.system.cpus import CPUS, cpu_name, cpuinfo, load_average, read_line

#: Beginnings of the CPU flags that decide which kernels an engine picks (x86 and Arm).
RELEVANT_FLAGS = ("avx", "fma", "f16c", "amx", "gfni", "asimd", "i8mm", "bf16", "sve")
#: The folder that holds the package; its clone, if it is one.
_ROOT = Path(__file__).parents[2]


class Machine(BaseModel):
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


def describe_machine() -> Machine:
    """The machine this process runs on."""
    info = cpuinfo()
    flags = (info.get("flags") or info.get("Features") or "").split()
    return Machine(
        cpu=cpu_name(),
        flags=tuple(sorted(flag for flag in flags if flag.startswith(RELEVANT_FLAGS))),
        cpus=os.cpu_count() or 1,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        governor=read_line(CPUS / "cpu0/cpufreq/scaling_governor"),
        caches=_caches(),
        load_before=load_average(),
    )


def commit() -> str | None:
    """The git commit of this package's source tree ("-dirty" if changed), None if it is no clone."""
    root = _ROOT
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _caches() -> dict[str, str]:
    """Data and unified caches of CPU 0, e.g. {"L1": "48K"}."""
    result = {}
    for folder in sorted((CPUS / "cpu0/cache").glob("index*")):
        level, size = read_line(folder / "level"), read_line(folder / "size")
        if level and size and read_line(folder / "type") != "Instruction":
            result[f"L{level}"] = size
    return result
