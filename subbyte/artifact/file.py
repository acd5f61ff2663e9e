"""save and load: docs/spec/artifact.md in code."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from subbyte.artifact.artifact import Artifact, check_artifact
from subbyte.artifact.compact import CODED, REST, compacted, expanded
from subbyte.artifact.container import (
    DTYPES,
    LENGTH_BYTES,
    MAX_FILE,
    MAX_HEADER,
    TensorInfo,
    read_header,
    tensor,
    write_container,
)
from subbyte.artifact.schema import GraphJson, coded_shapes, decode, encode, parse_graph, sizes
from subbyte.artifact.streams import Reader, Writer
from subbyte.artifact.strict_json import dump_json, parse_json
from subbyte.artifact.text import MAX_TEXT, expand, shrink
from subbyte.errors import ArtifactError, SubbyteError
from subbyte.ir import OPS, Graph
from subbyte.preprocess import Preprocessing
from subbyte.quant import QTensor
from subbyte.quant.pattern import DENSE
from subbyte.system.whole_file import write_whole

FORMAT = "subbyte"
#: The versions that this program reads; a file says the first that has all that its graph needs.
VERSIONS = ("1", "2", "3", "4")
ADVICE = "fetch or write the file again"
MAX_MESSAGE = 400
GRAPH = "graph"
FIELDS = ("classes", "format", "preprocessing", "provenance", "recipe", "version")


def save(path: str | os.PathLike[str], artifact: Artifact) -> None:
    """Writes the artifact, whole or not at all; equal artifacts give equal bytes.

    Raises ArtifactError if the artifact breaks a rule or the file cannot be written.
    """
    target = Path(path)
    try:
        pieces = serialize(check_artifact(artifact))
    except SubbyteError as error:
        raise ArtifactError(f"cannot save {target}: {error}") from None
    write_whole(target, pieces, ArtifactError)


def serialize(artifact: Artifact) -> list[bytes]:
    """The bytes of the file of a checked artifact, in pieces. ArtifactError if a limit is exceeded."""
    writer = Writer(coded=_compact(artifact))
    graph, tensors = encode(artifact.graph, writer), writer.tensors()
    if writer.coded:
        tensors, said = compacted(writer.dense, tensors)
        graph |= said
    metadata = {
        "classes": dump_json(None if artifact.classes is None else list(artifact.classes)),
        "format": FORMAT,
        "preprocessing": dump_json(artifact.preprocessing.to_json()),
        "provenance": dump_json(artifact.provenance),
        "recipe": dump_json(artifact.recipe),
        "version": version_of(artifact),
    }
    return write_container(tensors | {GRAPH: shrink(dump_json(graph))}, metadata)


def version_of(artifact: Artifact) -> str:
    """The first version of the format that has all that an artifact needs.

    4 has compact files; for others see `_version_of_graph`.
    """
    return "4" if _compact(artifact) else _version_of_graph(artifact.graph)


def _compact(artifact: Artifact) -> bool:
    """Whether codes of weights are to be coded, and there are some."""
    weights = (node.params.get("weight") for node in artifact.graph.nodes)
    return artifact.coding == "entropy" and any(
        isinstance(weight, QTensor) and weight.format.pattern == DENSE for weight in weights
    )


def _version_of_graph(graph: Graph) -> str:
    """The first version that has all that a graph needs.

    2 has the channel_scale of a mul, and levels of activations; 3 has patterns of weights, operations whose
    rows say so, and the dilation of a conv2d.
    """
    weights = [node.params.get("weight") for node in graph.nodes]
    sparse = any(isinstance(weight, QTensor) and weight.format.pattern != DENSE for weight in weights)
    scales = any("channel_scale" in node.params for node in graph.nodes)
    levels = any(value.q and value.q.levels for value in graph.values.values())
    since = max((OPS[node.op].since for node in graph.nodes if node.op in OPS), default=1)
    dilated = any("dilation" in node.attrs for node in graph.nodes)
    return VERSIONS[max(1 + (scales or levels), since, 3 if sparse or dilated else 1) - 1]


def load(path: str | os.PathLike[str]) -> Artifact:
    """Reads and validates a file; nothing in it is trusted.

    Memory is spent only on what the checked header, the file's size and subbyte.ir.limits allow.
    Raises ArtifactError for everything that is not a valid artifact.
    """
    try:
        with _open_regular(path) as file:
            return _read(file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}; check the path") from None
    except ValueError as error:  # a null character
        raise ArtifactError(f"cannot read {str(path)!r}: {error}; check the path") from None
    except _OtherVersionError as error:
        raise ArtifactError(f"cannot load {path}: {_printable(error)}; update subbyte") from None
    except SubbyteError as error:
        raise ArtifactError(f"cannot load {path}: {_printable(error)}; {ADVICE}") from None


class _OtherVersionError(ArtifactError):
    """The file is (or claims to be) of another version of the format."""


def _printable(error: Exception) -> str:
    """One bounded line that is safe on a terminal, whatever the file made the error quote."""
    text = str(error)[:MAX_MESSAGE]
    return "".join(character if character.isprintable() else "?" for character in text)


def _open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for a writer
        raise ArtifactError("it is not a regular file")
    return open(path, "rb")


def _read(file: BinaryIO, size: int) -> Artifact:
    if size > MAX_FILE:
        raise ArtifactError(f"it has {size} bytes, more than the {MAX_FILE} an artifact may have")
    length = int.from_bytes(_exactly(file, min(size, LENGTH_BYTES)), "little")
    body_size = size - LENGTH_BYTES - length
    if length > MAX_HEADER or body_size < 0:
        raise ArtifactError("it does not begin with a header as an artifact does, or it is truncated")
    metadata, table = read_header(_exactly(file, length), body_size)
    version, fields = _parse_metadata(metadata)
    graph = parse_graph(_read_graph_text(file, LENGTH_BYTES + length, table))
    _check_sizes(graph, table)
    body = np.empty(body_size, np.uint8)
    file.seek(LENGTH_BYTES + length)
    if file.readinto(body.data) != body_size:  # type: ignore[attr-defined]
        raise ArtifactError("it became shorter while it was read")
    found = {name: tensor(body, info) for name, info in table.items() if name != GRAPH}
    coding: Literal["fixed", "entropy"] = "fixed" if graph.tables is None else "entropy"
    if graph.tables is None:
        reader = Reader(found)
    else:
        reader = Reader(*expanded(graph.tables, coded_shapes(graph), sizes(graph), found[CODED], found[REST]))
    artifact = Artifact(decode(graph, reader), **fields, coding=coding)
    if (needed := version_of(artifact)) > version:
        raise ArtifactError(f"it says format version {version!r}, but its graph is of version {needed!r}")
    return check_artifact(artifact)


def _read_graph_text(file: BinaryIO, body: int, table: Mapping[str, TensorInfo]) -> str:
    info = table.get(GRAPH)
    if info is None or info.dtype != np.uint8 or info.size > MAX_TEXT:
        raise ArtifactError(f"it has no graph, or one beyond {MAX_TEXT} bytes")
    file.seek(body + info.begin)
    return expand(_exactly(file, info.size))


def _check_sizes(graph: GraphJson, table: Mapping[str, TensorInfo]) -> None:
    """The tensors are just those that the graph's parameters fill, before a byte of them is read."""
    wanted = sizes(graph)
    names = {*(wanted if graph.tables is None else (CODED, REST)), GRAPH}
    if set(table) != names:
        raise ArtifactError(f"it has the tensors {sorted(table)}, its graph needs {sorted(names)}")
    if graph.tables is not None:
        if any(table[name].dtype != np.uint8 for name in (CODED, REST)):
            raise ArtifactError("its coded weights are no bytes")
        return
    for name, size in wanted.items():
        if table[name].dtype != DTYPES[name] or table[name].size != size:
            raise ArtifactError(f"tensor {name!r} has {table[name].size} elements, its graph needs {size}")


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise ArtifactError("it became shorter while it was read")
    return data


def _parse_metadata(metadata: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """The version, and the fields of the artifact beside its graph."""
    if metadata.get("format") != FORMAT:
        raise ArtifactError("it is not marked as a subbyte artifact")
    version = metadata.get("version")
    if version not in VERSIONS:
        *others, last = map(repr, VERSIONS)
        known = f"{', '.join(others)} and {last}"
        raise _OtherVersionError(f"it has format version {version!r:.20}, this program reads {known}")
    if sorted(metadata) != sorted(FIELDS):
        raise ArtifactError(f"its metadata must have exactly the fields {', '.join(FIELDS)}")
    classes = parse_json(metadata["classes"])
    return version, {
        "recipe": parse_json(metadata["recipe"]),
        "preprocessing": Preprocessing.from_json(parse_json(metadata["preprocessing"])),
        "classes": tuple(classes) if isinstance(classes, list) else classes,
        "provenance": parse_json(metadata["provenance"]),
    }
