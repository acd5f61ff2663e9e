"""Labels that are numbers: what a network should answer for each image of a folder.

`labels.csv` has the column `file` and, in the order of the network's outputs, a column per number, whatever
their names. `labels.json` maps each file to a list of its numbers, or of lists of them: points [x, y].
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from subbyte.data.samples import MAX_TABLE, Sample, listed_file, read_csv
from subbyte.errors import InputError
from subbyte.system.text_file import read_json

TABLES = ("labels.csv", "labels.json")


def numbered_folder(root: Path | str, count: int, *, gaps: bool = False) -> list[Sample]:
    """The images that a table in `root` gives `count` numbers each, in its order.

    gaps: a number may be missing (an empty cell, null), which the label has as NaN.
    Raises InputError naming the line or file: no table, another number of numbers, one that is not finite, a
    file that does not exist or is outside the folder.
    """
    table = next((path for name in TABLES if (path := Path(root) / name).is_file()), None)
    if table is None:
        raise InputError(
            f"{root} has no labels: it needs a labels.csv (file and {count} numbers) or labels.json"
        )
    rows = _csv_rows(table) if table.suffix == ".csv" else _json_rows(table)
    samples = [
        Sample(listed_file(table, line, name), _numbers(f"{table}, {name}", cells, count, gaps))
        for line, name, cells in rows
    ]
    if not samples:
        raise InputError(f"{root} holds no labelled images")
    return samples


Rows = Iterator[tuple[int, str, list[Any]]]


def _csv_rows(table: Path) -> Rows:
    """Line, file, and cells of each row."""
    for line, row in read_csv(table):
        name = row.pop("file", None)
        if not name:
            raise InputError(f"{table} line {line}: needs the column file")
        yield line, name, [None if cell is None or not str(cell).strip() else cell for cell in row.values()]


def _json_rows(table: Path) -> Rows:
    """The same of a JSON file; its entries count as lines."""
    read = read_json("labels from", table, MAX_TABLE)
    if not isinstance(read, dict):
        raise InputError(f"{table} must map each file to a list of numbers")
    for line, (name, listed) in enumerate(read.items(), 1):
        items = listed if isinstance(listed, list) else [listed]
        yield line, name, [x for item in items for x in (item if isinstance(item, list) else [item])]


def _numbers(where: str, cells: list[Any], count: int, gaps: bool) -> tuple[float, ...]:
    numbers = tuple(math.nan if cell is None and gaps else _number(where, cell) for cell in cells)
    if len(numbers) != count:
        raise InputError(f"{where}: there are {len(numbers)} numbers, but the network has {count} outputs")
    return numbers


def _number(where: str, cell: Any) -> float:
    try:
        number = math.nan if isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{where}: a label must be a finite number, got {cell!r:.80}")
    return number
