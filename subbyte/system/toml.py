"""Reading TOML: Python's own reader, or before 3.11 the package it came from."""

from __future__ import annotations

import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a text. ValueError, whose message says where, if it is not TOML."""
    return tomllib.loads(text)
