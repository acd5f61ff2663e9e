"""What is said about the machine and the source tree of a measurement."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from subbyte.benchmark import machine


def test_the_description_names_the_kernels_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = machine.describe_machine()
    assert described.cpus == os.cpu_count()
    assert described.memory > 1 << 20
    assert described.cpu
    fields = {"model name": "Some CPU", "flags": "fpu avx2 avx512_vnni sse2 fma"}
    monkeypatch.setattr(machine, "cpuinfo", lambda: fields)
    assert machine.describe_machine().flags == ("avx2", "avx512_vnni", "fma")
    monkeypatch.setattr(machine, "cpuinfo", lambda: {"Features": "fp asimd asimddp"})
    assert machine.describe_machine().flags == ("asimd", "asimddp")


def test_commit_only_of_the_packages_own_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_ROOT", tmp_path)
    assert machine.commit() is None
    (tmp_path / ".git").mkdir()  # not a repository
    assert machine.commit() is None
