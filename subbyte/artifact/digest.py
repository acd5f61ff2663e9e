"""What tells one graph from another."""

from __future__ import annotations

import hashlib

from subbyte.artifact.schema import encode
from subbyte.artifact.streams import Writer
from subbyte.artifact.strict_json import dump_json
from subbyte.ir import Graph


def graph_digest(graph: Graph) -> str:
    """SHA-256, in hexadecimal digits, of all that a verified graph holds: structure, names, attributes,
    grids and every parameter, as `save` writes them."""
    writer = Writer()
    digest = hashlib.sha256(dump_json(encode(graph, writer)).encode())
    for tensor in writer.tensors().values():
        digest.update(tensor.data)
    return digest.hexdigest()
