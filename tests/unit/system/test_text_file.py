"""Files that a user names are read in bounded time, or refused with one sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from subbyte.errors import InputError
from subbyte.system.text_file import read_json, read_text


def test_text_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("größe\r\n".encode("utf-8-sig"))
    assert read_text("lines from", path, 100) == "größe\r\n"
    assert read_text("lines from", path, path.stat().st_size) == "größe\r\n"


def test_what_is_refused(tmp_path: Path) -> None:
    def refused(name: str, message: str) -> None:
        with pytest.raises(InputError) as caught:
            read_text("lines from", tmp_path / name, 4)
        assert str(caught.value) == f"cannot read lines from {tmp_path / name}: {message}"

    (tmp_path / "long").write_bytes(b"12345")
    (tmp_path / "latin").write_bytes(b"\xe4")
    os.mkfifo(tmp_path / "pipe")
    refused("missing", "No such file or directory")
    refused("long", "it has more than 4 bytes")
    refused("latin", "it is not UTF-8 text")
    refused("pipe", "it is not a regular file")  # and nobody waits for a writer
    refused(".", "it is not a regular file")
    refused("n" * 300, "File name too long")
    refused("nul\0", "this is no file name")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[1", "\0", "1" * 5000])
def test_json_that_is_none(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputError, match="cannot read lines from"):
        read_json("lines from", path, 1 << 20)


def test_json_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, 2]}')
    assert read_json("lines from", path, 100) == {"a": [1, 2]}
