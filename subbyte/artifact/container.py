"""The safetensors container: an 8-byte length, a JSON header, the tensors' bytes.

Written and read here rather than by the safetensors library, because the bytes have to be the same
every time (the library shuffles its metadata) and because every claim of the header has to be
checked before memory is spent on it. The library reads these files; this reader accepts only
safetensors files of vectors, listed in the order of their bytes, widest elements first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from subbyte.artifact.strict_json import check_size, dump_json, parse_json
from subbyte.errors import ArtifactError

LENGTH_BYTES = 8
MAX_HEADER = 4 << 20
MAX_FILE = 2 << 30
MAX_TENSORS = 16

DTYPES: dict[str, np.dtype[Any]] = {
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "F16": np.dtype("<f2"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
}
CODES = {dtype: code for code, dtype in DTYPES.items()}
#: In which compact files have numbers of all dtypes behind each other.
ORDER = ("F16", "F32", "I32", "I8", "U8")


@dataclass(frozen=True)
class TensorInfo:
    """Where a vector lies: bytes `begin` .. `end` of the body, to be read as `size` of `dtype`."""

    dtype: np.dtype[Any]
    size: int
    begin: int
    end: int


def write_container(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> list[bytes]:
    """The file's bytes, in pieces. Equal arguments give equal bytes; tensors keep their order but
    for wider elements coming first, so that each is aligned. ArtifactError if a limit is exceeded."""
    ordered = sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize)
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    offset = 0
    for name, array in ordered:
        end = offset + array.nbytes
        header[name] = {
            "dtype": CODES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = _dump_header(header)
    if len(text) > MAX_HEADER or LENGTH_BYTES + len(text) + offset > MAX_FILE or len(ordered) > MAX_TENSORS:
        raise ArtifactError(
            f"the network is too large for a file: {len(ordered)} tensors of {offset} bytes and a header of "
            f"{len(text)}, at most {MAX_TENSORS}, {MAX_FILE} and {MAX_HEADER} are supported"
        )
    return [len(text).to_bytes(LENGTH_BYTES, "little"), text, *(a.tobytes() for _, a in ordered)]


def _dump_header(header: Mapping[str, Any]) -> bytes:
    """Compact JSON in the order given, padded with spaces so that the body starts at a multiple of 8."""
    entries = (f"{dump_json(name)}:{dump_json(entry)}" for name, entry in header.items())
    text = "{" + ",".join(entries) + "}"
    check_size(text)
    raw = text.encode()
    return raw + b" " * (-len(raw) % 8)


def read_header(raw: bytes, body_size: int) -> tuple[dict[str, str], dict[str, TensorInfo]]:
    """Metadata and tensor table of a header, for a body of `body_size` bytes.

    Raises ArtifactError unless the table covers the body exactly: in order, without gap, overlap
    or remainder, aligned, each size equal to its shape times its dtype.
    """
    try:
        header = parse_json(raw.decode())
    except UnicodeDecodeError:
        raise ArtifactError("its header is not UTF-8 text") from None
    if not isinstance(header, dict) or len(header) > MAX_TENSORS + 1:
        raise ArtifactError(f"its header is not a JSON object of at most {MAX_TENSORS} tensors")
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ArtifactError("its header has no metadata; it is a plain safetensors file or none at all")
    table: dict[str, TensorInfo] = {}
    offset = 0
    for name, entry in header.items():
        table[name] = info = _read_entry(name, entry)
        if info.begin != offset or info.begin % info.dtype.itemsize:
            raise ArtifactError(f"tensor {name!r:.80} begins at byte {info.begin} of the body, not {offset}")
        offset = info.end
    if offset != body_size:
        raise ArtifactError(f"its tensors have {offset} bytes, the file holds {body_size}")
    return metadata, table


def _read_entry(name: str, entry: object) -> TensorInfo:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ArtifactError(f"tensor {name!r:.80} needs exactly dtype, shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise ArtifactError(f"tensor {name!r:.80} has dtype {code!r:.80}; known: {', '.join(DTYPES)}")
    if not _sizes(shape, 1) or len(shape) != 1:
        raise ArtifactError(f"tensor {name!r:.80} has shape {shape!r:.80}")
    if not _sizes(offsets, 0) or len(offsets) != 2:
        raise ArtifactError(f"tensor {name!r:.80} has data_offsets {offsets!r:.80}")
    dtype = DTYPES[code]
    if offsets[1] - offsets[0] != shape[0] * dtype.itemsize:
        raise ArtifactError(f"tensor {name!r:.80}: {code} {shape} does not fill bytes {offsets}")
    return TensorInfo(dtype, shape[0], offsets[0], offsets[1])


def _sizes(value: object, lowest: int) -> bool:
    return isinstance(value, list) and all(type(n) is int and lowest <= n <= MAX_FILE for n in value)


def tensor(body: np.ndarray, info: TensorInfo) -> np.ndarray:
    """The vector as a view of the body, uint8 [body_size]."""
    return body[info.begin : info.end].view(info.dtype)
