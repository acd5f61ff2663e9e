"""Where measurements of this machine are kept, and what makes them stale."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import sys
from pathlib import Path

from subbyte.errors import InputError
from subbyte.system.whole_file import write_whole


def cache_folder() -> Path:
    """The user's cache folder of this program: $XDG_CACHE_HOME or the platform's own."""
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "subbyte"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "subbyte"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "subbyte" / "cache"
    return Path.home() / ".cache" / "subbyte"


def engine_version() -> str:
    """The first digits of the SHA-256 of the engine's library: another build, another version.

    Raises InputError if it is not built.
    """
    spec = importlib.util.find_spec("subbyte._native")
    if spec is None or spec.origin is None:
        raise InputError("the native engine is not built; install subbyte first")
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:16]


def read_json(path: Path) -> dict[str, dict[str, float]]:
    """What `write_json` wrote; empty if there is no readable file."""
    try:
        loaded = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def write_json(path: Path, table: dict[str, dict[str, float]]) -> None:
    """Replaces the file at once. A folder that cannot be written is not an error: nothing is kept."""
    with contextlib.suppress(OSError, InputError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, [json.dumps(table, indent=1, sort_keys=True).encode()])
