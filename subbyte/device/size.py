"""Exact bytes of a file: docs/spec/artifact.md."""

from __future__ import annotations

from subbyte.artifact import Artifact
from subbyte.artifact.artifact import check_artifact
from subbyte.artifact.file import serialize
from subbyte.ir import Node
from subbyte.quant import QTensor


def node_bytes(node: Node) -> int:
    """All parameters of a node as memory, and files without coding, hold them: codes, scales, bias, table."""
    return sum(p.format.bytes(p.shape) if isinstance(p, QTensor) else p.nbytes for p in node.params.values())


def artifact_bytes(artifact: Artifact) -> int:
    """The size of the file that `save` would write."""
    return sum(map(len, serialize(check_artifact(artifact))))
