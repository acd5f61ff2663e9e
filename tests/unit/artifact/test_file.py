"""Writing whole or not at all, and what save and load refuse about their surroundings."""

from __future__ import annotations

import io
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from subbyte.artifact import container, file, load, save, text
from subbyte.artifact.schema import parse_graph
from subbyte.artifact.streams import Reader, Writer
from subbyte.errors import ArtifactError
from subbyte.preprocess import Preprocessing
from tests.fuzz.graphs import seeds
from tests.unit.artifact.compare import same_artifact


def test_saves_over_an_older_file(tmp_path: Path) -> None:
    path = tmp_path / "a.subbyte"
    save(path, seeds()["mixed"])
    save(str(path), seeds()["real"])
    assert same_artifact(load(str(path)), seeds()["real"])
    assert os.listdir(tmp_path) == ["a.subbyte"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_interrupted_save_leaves_the_old_file(
    error: Any, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.subbyte"
    save(path, seeds()["mixed"])
    before = path.read_bytes()

    def fail(*args: object) -> None:
        assert [p.stat().st_size for p in tmp_path.glob(".*.partial")]  # all is written beside it by now
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else ArtifactError):
        save(path, seeds()["real"])
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.subbyte"]


def test_a_failed_first_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", lambda *args: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(ArtifactError, match="Input/output error; choose a folder"):
        save(tmp_path / "a.subbyte", seeds()["mixed"])
    assert os.listdir(tmp_path) == []


def test_the_file_has_ordinary_permissions(tmp_path: Path) -> None:
    save(tmp_path / "a.subbyte", seeds()["mixed"])
    (tmp_path / "b").write_bytes(b"")
    modes = {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
    assert len(modes) == 1


def test_save_into_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"cannot write .*No such file or directory; choose a folder"):
        save(tmp_path / "missing" / "a.subbyte", seeds()["mixed"])


def test_save_onto_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot write"):
        save(tmp_path, seeds()["mixed"])


def test_load_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"cannot read .*No such file or directory; check the path"):
        load(tmp_path / "a.subbyte")


def test_load_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ArtifactError, match="not a regular file"):
            load(path)


def test_load_an_impossible_name() -> None:
    with pytest.raises(ArtifactError, match="cannot read"):
        load("a\0b")


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("recipe tuple", {"recipe": {"a": (1, 2)}}, "recipe must be a dict of plain JSON"),
    ("recipe key", {"recipe": {1: 2}}, "recipe must be a dict of plain JSON"),
    ("recipe list", {"recipe": []}, "recipe must be a dict of plain JSON"),
    ("recipe NaN", {"recipe": {"a": float("nan")}}, "not plain, finite JSON"),
    ("recipe object", {"recipe": {"a": object()}}, "not plain, finite JSON"),
    ("recipe surrogate", {"recipe": {"a": "\ud800"}}, "surrogates"),
    ("provenance set", {"provenance": {"a": {1}}}, "not plain, finite JSON"),
    ("classes list", {"classes": ["a", "b", "c"]}, "classes must be None or a tuple"),
    ("classes short", {"classes": ("a",)}, "one name for each of 3"),
    ("classes empty", {"classes": ("a", "", "c")}, "class name ''"),
    ("classes number", {"classes": ("a", 2, "c")}, "class name 2"),
    ("preprocessing", {"preprocessing": {}}, "must be a Preprocessing"),
    ("graph", {"graph": replace(seeds()["mixed"].graph, outputs=())}, "at least one output"),
    ("image", {"preprocessing": replace(seeds()["mixed"].preprocessing, width=9)}, "makes 6 x 9 images"),
    (
        "channels",
        {"preprocessing": Preprocessing(6, 6, (0.0,), (1.0,))},
        r"6 x 6 images of 1 channel\(s\), but the graph's input is \(6, 6, 3\)",
    ),
]


@pytest.mark.parametrize(("changes", "message"), [pytest.param(c, m, id=i) for i, c, m in BAD])
def test_save_refuses(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=message):
        save(tmp_path / "a.subbyte", replace(seeds()["mixed"], **changes))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("limit", ["MAX_HEADER", "MAX_FILE", "MAX_TENSORS"])
def test_save_never_writes_what_load_would_refuse(
    limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, limit, 1)
    with pytest.raises(ArtifactError, match="too large for a file"):
        save(tmp_path / "a.subbyte", seeds()["mixed"])


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.subbyte"
    save(path, seeds()["mixed"])

    def shrink(text: str) -> Any:
        os.truncate(path, path.stat().st_size - 1)
        return parse_graph(text)

    monkeypatch.setattr(file, "parse_graph", shrink)
    with pytest.raises(ArtifactError, match="became shorter"):
        load(path)


def test_a_file_that_shrinks_before_it_is_read() -> None:
    with pytest.raises(ArtifactError, match="became shorter"):
        file._exactly(io.BytesIO(b"abc"), 4)


def test_arrays_are_cut_in_order_and_never_beyond_the_end() -> None:
    writer = Writer()
    first, second = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([7], np.float32)
    assert [writer.append(first), writer.append(second)] == ["F32", "F32"]
    reader = Reader(writer.tensors())
    assert np.array_equal(reader.take("F32", (2, 3)), first)
    with pytest.raises(ArtifactError, match="fewer F32 numbers"):
        reader.take("F32", (2,))
    with pytest.raises(ArtifactError, match="fewer I8 numbers"):
        reader.take("I8", (1,))
    assert np.array_equal(reader.take("F32", (1,)), second)


def test_save_refuses_a_description_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MAX_TEXT", 1000)
    with pytest.raises(ArtifactError, match=r"description has \d+ bytes; at most 1000"):
        save(tmp_path / "a.subbyte", seeds()["mixed"])


def test_only_a_regular_file_is_replaced(tmp_path: Path) -> None:
    artifact = seeds()["mixed"]
    os.mkfifo(tmp_path / "pipe")
    for path in (".", tmp_path, tmp_path / "..", "/", tmp_path / "pipe"):
        with pytest.raises(ArtifactError, match="is not a regular file; give the name of a file"):
            save(path, artifact)
    with pytest.raises(ArtifactError, match="null"):
        save(tmp_path / "a\0b", artifact)
    with pytest.raises(ArtifactError, match="File name too long"):
        save(tmp_path / ("n" * 300), artifact)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
