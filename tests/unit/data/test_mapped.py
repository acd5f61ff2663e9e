"""Rows in a file without a name: what was written is read, and nothing stays behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from subbyte.data.mapped import Mapped, folder_of_maps
from subbyte.errors import InputError


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_rows_come_back_and_the_folder_stays_empty(dtype: type, tmp_path: Path) -> None:
    rows: np.ndarray = np.random.default_rng(0).integers(0, 255, (11, 3, 5, 2)).astype(dtype)
    mapped = Mapped(tmp_path)
    for start in range(0, 11, 4):
        mapped.add(rows[start : start + 4, :, ::-1])
    array = mapped.array()
    del mapped
    assert np.array_equal(array, rows[:, :, ::-1])
    assert array.dtype == dtype
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_an_empty_array(tmp_path: Path) -> None:
    assert len(Mapped(tmp_path).array()) == 0


def test_a_folder_that_is_none_and_a_full_disk_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot keep images and what layers make .*: No such file"):
        Mapped(tmp_path / "missing")
    mapped = Mapped(tmp_path)
    mapped.file.close()
    mapped.file = open("/dev/full", "r+b", buffering=0)  # noqa: SIM115
    with pytest.raises(InputError, match="No space left on device; choose a folder"):
        mapped.add(np.zeros((1, 4), np.float32))
    mapped.file.close()


def test_the_folder_is_made_or_the_systems(tmp_path: Path) -> None:
    assert folder_of_maps(tmp_path / "a" / "b").is_dir()
    assert folder_of_maps(None).is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot keep images in"):
        folder_of_maps(tmp_path / "file")
