"""The graph's JSON as a few kilobytes: bzip2, whose output is the same everywhere."""

from __future__ import annotations

import bz2

import numpy as np

from subbyte.errors import ArtifactError

MAX_TEXT = 4 << 20


def shrink(text: str) -> np.ndarray:
    """uint8 [n]: the text, compressed. ArtifactError if it is longer than a reader accepts."""
    raw = text.encode()
    if len(raw) > MAX_TEXT:
        raise ArtifactError(f"the graph's description has {len(raw)} bytes; at most {MAX_TEXT} are supported")
    return np.frombuffer(bz2.compress(raw), np.uint8)


def expand(data: bytes) -> str:
    """The inverse of `shrink`. Never makes more than MAX_TEXT bytes, whatever the data claims.

    Raises ArtifactError if the data is damaged, is followed by more, or expands to more.
    """
    engine = bz2.BZ2Decompressor()
    try:
        raw = engine.decompress(data, max_length=MAX_TEXT + 1)
        text = raw.decode()
    except (OSError, EOFError, UnicodeDecodeError):
        raise ArtifactError("its graph cannot be decompressed") from None
    if len(raw) > MAX_TEXT or not engine.eof or engine.unused_data:
        raise ArtifactError("its graph is truncated, or longer than it may be")
    return text
