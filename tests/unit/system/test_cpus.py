"""On which CPUs the process runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from subbyte.errors import InputError
from subbyte.system import cpus

needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no CPU affinity here")


def machine(root: Path, siblings: dict[int, str], frequency: dict[int, int]) -> None:
    """Writes what Linux says about the CPUs of a machine."""
    for cpu, text in siblings.items():
        (root / f"cpu{cpu}/topology").mkdir(parents=True)
        (root / f"cpu{cpu}/topology/thread_siblings_list").write_text(text + "\n")
        (root / f"cpu{cpu}/cpufreq").mkdir()
        (root / f"cpu{cpu}/cpufreq/cpuinfo_max_freq").write_text(f"{frequency[cpu]}\n")


def test_fast_cores_come_first_and_second_hardware_threads_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPUs 0-3: two fast cores with two threads each; 4 and 5: slow cores."""
    siblings = {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3", 4: "4", 5: "5"}
    machine(tmp_path, siblings, {0: 5, 1: 5, 2: 5, 3: 5, 4: 3, 5: 3})
    monkeypatch.setattr(cpus, "CPUS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    assert cpus.choose_cpus(1) == (2,)
    assert cpus.choose_cpus(2) == (0, 2)
    assert cpus.choose_cpus(4) == (0, 2, 4, 5)
    assert cpus.choose_cpus(6) == (0, 1, 2, 3, 4, 5)
    with pytest.raises(InputError, match="7 threads need 7 CPUs, but this process may use 6"):
        cpus.choose_cpus(7)


@needs_affinity
def test_pinning_ends_even_after_an_error() -> None:
    before = os.sched_getaffinity(0)
    cpu = min(before)
    inside = set()

    def fails() -> None:
        with cpus.pinned([cpu]):
            inside.update(os.sched_getaffinity(0))
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fails()
    assert inside == {cpu}
    assert os.sched_getaffinity(0) == before
    with cpus.pinned(()):
        assert os.sched_getaffinity(0) == before
