"""Exact bytes of a file: docs/spec/artifact.md."""

from __future__ import annotations

import math

from subbyte.artifact import Artifact
from subbyte.artifact.artifact import check_artifact
from subbyte.artifact.file import serialize
from subbyte.ir import Node
from subbyte.quant import QTensor
from subbyte.quant.packing import packed_size


def weight_bytes(shape: tuple[int, ...], bits: int, *, book: bool = False) -> int:
    """Codes and scales of a weight [O, ...], and its code book if it is not the plain one."""
    return packed_size(math.prod(shape), bits) + scale_bytes(shape) + ((1 << bits) if book else 0)


def scale_bytes(shape: tuple[int, ...]) -> int:
    """A float32 scale per output channel."""
    return 4 * shape[0]


def node_bytes(node: Node) -> int:
    """All parameters of a node as the file holds them: codes, scales, code book, bias, table."""
    total = 0
    for param in node.params.values():
        if isinstance(param, QTensor):
            total += weight_bytes(param.shape, param.bits, book=not param.is_uniform)
        else:
            total += param.nbytes
    return total


def artifact_bytes(artifact: Artifact) -> int:
    """The size of the file that `save` would write."""
    return sum(map(len, serialize(check_artifact(artifact))))
