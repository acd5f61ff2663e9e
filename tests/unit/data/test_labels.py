"""Labels that are numbers, from a table of a folder."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from PIL import Image

from subbyte.data.labels import numbered_folder
from subbyte.data.sets import ImageSet
from subbyte.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    return tmp_path


def test_columns_are_numbers_in_order(folder: Path) -> None:
    (folder / "labels.csv").write_text("x,file,anything\n0.5,b.png,-1e3\n2,a.png,3\n")
    samples = numbered_folder(folder, 2)
    assert [(s.path.name, s.label) for s in samples] == [("b.png", (0.5, -1000.0)), ("a.png", (2.0, 3.0))]
    assert ImageSet(folder).is_labelled


def test_json_has_points_or_numbers(folder: Path) -> None:
    (folder / "labels.json").write_text(json.dumps({"a.png": [[0, 1], [2, 3]], "b.png": [4, 5, 6, 7]}))
    assert [s.label for s in numbered_folder(folder, 4)] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert ImageSet(folder).is_labelled


def test_gaps_only_where_they_are_allowed(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,x,y\na.png,,1\n")
    (sample,) = numbered_folder(folder, 2, gaps=True)
    assert isinstance(sample.label, tuple)
    assert math.isnan(sample.label[0])
    assert sample.label[1] == 1.0
    with pytest.raises(InputError, match=r"a\.png: a label must be a finite number, got None"):
        numbered_folder(folder, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,x\na.png,1\n", "there are 1 numbers, but the network has 2 outputs"),
        ("file,x,y\na.png,1,two\n", "finite number, got 'two'"),
        ("file,x,y\na.png,1,inf\n", "finite number, got 'inf'"),
        ("file,x,y\na.png,1,2,3\n", "finite number"),
        ("file,x,y\nc.png,1,2\n", "line 2: there is no file"),
        ("file,x,y\n../a.png,1,2\n", "inside the folder of the table"),
        ("name,x,y\na.png,1,2\n", "line 2: needs the column file"),
        ("file,x,y\n", "no labelled images"),
    ],
)
def test_what_is_wrong_with_a_table(folder: Path, text: str, message: str) -> None:
    (folder / "labels.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        numbered_folder(folder, 2)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], "must map each file"),
        ({"a.png": [[[1]], 2]}, "finite number, got"),
        ({"a.png": {"x": 1}}, "finite number, got"),
        ({"a.png": [True, 2]}, "finite number, got True"),
        ({"a.png": [10**400, 2]}, "finite number, got 1000"),
    ],
)
def test_what_is_wrong_with_json(folder: Path, value: object, message: str) -> None:
    (folder / "labels.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match=message):
        numbered_folder(folder, 2)


def test_a_folder_without_a_table(folder: Path) -> None:
    with pytest.raises(InputError, match=r"has no labels: it needs a labels\.csv \(file and 2 numbers\)"):
        numbered_folder(folder, 2)
