"""Tables whose rows lie in the files of a folder: a new file there adds rows, and nothing else changes."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any


def rows_of(package: str, path: list[str]) -> dict[str, Any]:
    """The `ROWS` of every module in the package at `path`, together. A name with two rows is a KeyError."""
    found: dict[str, Any] = {}
    for module in pkgutil.iter_modules(path):
        rows: dict[str, Any] = importlib.import_module(f"{package}.{module.name}").ROWS
        if twice := rows.keys() & found.keys():
            raise KeyError(f"{package} has two rows for {sorted(twice)}")
        found |= rows
    return found
