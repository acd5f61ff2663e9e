"""A folder's files are a table's rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from subbyte.system.rows import rows_of


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of this test alone, whose modules nothing else has imported."""
    folder = tmp_path / f"rows_{tmp_path.name}"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "first.py").write_text("ROWS = {'a': 1, 'b': 2}\n")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_a_new_file_adds_rows(package: Path) -> None:
    assert rows_of(package.name, [str(package)]) == {"a": 1, "b": 2}
    (package / "second.py").write_text("ROWS = {'c': 3}\n")
    assert rows_of(package.name, [str(package)]) == {"a": 1, "b": 2, "c": 3}


def test_a_name_has_one_row(package: Path) -> None:
    (package / "second.py").write_text("ROWS = {'b': 3}\n")
    with pytest.raises(KeyError, match=r"two rows for \['b'\]"):
        rows_of(package.name, [str(package)])
