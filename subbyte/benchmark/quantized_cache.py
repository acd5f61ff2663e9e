"""Files that a peer's quantization tool made, kept by the hash of everything they depend on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np


def cache_key(model: bytes, calibration: Sequence[np.ndarray], settings: Mapping[str, object]) -> str:
    """32 hex digits that change with the model, the calibration data and the tool's settings."""
    digest = hashlib.sha256(str(len(model)).encode() + model)
    for array in calibration:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return digest.hexdigest()[:32]


@contextmanager
def cached_file(folder: Path | None, name: str, build: Callable[[Path], None]) -> Iterator[Path]:
    """A path to the file `name` inside a folder of its own, built on first use.

    `build(path)` writes the file, and its companions beside it. Without a `folder` it is
    built in a temporary one that is removed on exit. An interrupted build leaves nothing.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as scratch:
            build(Path(scratch) / name)
            yield Path(scratch) / name
        return
    target = folder / Path(name).stem
    if not (target / name).exists():
        folder.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.mkdtemp(dir=folder, prefix=".building-")
        try:
            build(Path(scratch) / name)
            os.replace(scratch, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    yield target / name
