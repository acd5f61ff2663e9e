"""Whole or not at all, by every writer of files that people wait for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from subbyte import save
from subbyte.analysis.degradation import Degradation
from subbyte.analysis.table import Sensitivity
from subbyte.device.cache import write_json
from subbyte.errors import SubbyteError
from subbyte.steps.train import write_state
from subbyte.system.text_file import write_text
from subbyte.system.whole_file import remove_partial, write_whole
from tests.fuzz.graphs import seeds

WRITERS: dict[str, Callable[[Path], None]] = {
    "state": lambda path: write_state(path, {"step": 1}),
    "artifact": lambda path: save(path, seeds()["mixed"]),
    "report": lambda path: write_text(path, "text"),
    "sensitivity": lambda path: Sensitivity(
        key="k", model="m", images=1, base=Degradation(kl=0.0, mse=0.0, agreement=1.0)
    ).save(path),
}


def fail(*args: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_leaves_the_old_file_alone(
    writer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    WRITERS[writer](path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(SubbyteError, match=f"cannot write {path}: No space left on device; choose a folder"):
        WRITERS[writer](path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["file"]


def test_a_latency_table_that_cannot_be_kept_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", fail)
    write_json(tmp_path / "file", {"layer": {"8": 1.0}})
    assert os.listdir(tmp_path) == []


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "file", pieces())
    assert os.listdir(tmp_path) == []


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    others = (".12345678.b.pt.partial", ".1234.a.pt.partial", "a.pt", ".12345678.a.ptx.partial")
    for name in (".12345678.a.pt.partial", ".abcdef01.a.pt.partial", *others):
        (tmp_path / name).touch()
    remove_partial(tmp_path / "a.pt")
    assert {path.name for path in tmp_path.iterdir()} == set(others)
