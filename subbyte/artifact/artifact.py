"""What a file holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from subbyte.artifact.strict_json import dump_json, parse_json
from subbyte.errors import ArtifactError
from subbyte.ir import Graph, verify
from subbyte.ir.limits import MAX_NAME
from subbyte.preprocess import Preprocessing


@dataclass(frozen=True, eq=False)
class Artifact:
    """A network ready to run, and everything needed to use it and to know where it comes from.

    graph: the network, obeying subbyte.ir.verify.
    recipe: the compression recipe as plain JSON (empty if none).
    preprocessing: how an image becomes the graph's input; its height, width and channels are the input's.
    classes: names of the elements of the first output, or None.
    provenance: plain JSON about the origin (source model, licence, data, versions).
    coding: how codes of dense weights are stored: "fixed", each in the bits of its format, or "entropy",
    frequent ones in fewer.
    """

    graph: Graph
    recipe: dict[str, Any]
    preprocessing: Preprocessing
    classes: tuple[str, ...] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    coding: Literal["fixed", "entropy"] = "fixed"


def check_artifact(artifact: Artifact) -> Artifact:
    """Returns the artifact unchanged. Raises ArtifactError or GraphError if its parts disagree."""
    graph = verify(artifact.graph)
    shape, pre = graph.value(graph.input).shape, artifact.preprocessing
    if not isinstance(pre, Preprocessing):
        raise ArtifactError(f"preprocessing must be a Preprocessing, got {type(pre).__name__}")
    # three numbers are also in files whose networks take arrays of other depths, not images
    if shape[:2] != (pre.height, pre.width) or pre.channels not in (3, shape[-1]):
        raise ArtifactError(
            f"the preprocessing makes {pre.height} x {pre.width} images of {pre.channels} channel(s), "
            f"but the graph's input is {shape}"
        )
    _check_classes(artifact.classes, graph.value(graph.outputs[0]).shape[-1])
    for name in ("recipe", "provenance"):
        _check_plain(name, getattr(artifact, name))
    return artifact


def _check_classes(classes: tuple[str, ...] | None, outputs: int) -> None:
    """ArtifactError unless there is a printable name for each output, or none at all."""
    if classes is None:
        return
    if not isinstance(classes, tuple) or len(classes) != outputs:
        raise ArtifactError(f"classes must be None or a tuple with one name for each of {outputs} outputs")
    for name in classes:
        if not (isinstance(name, str) and 1 <= len(name) <= MAX_NAME and name.isprintable()):
            raise ArtifactError(f"class name {name!r:.80} is not 1..{MAX_NAME} printable characters")


def _check_plain(name: str, value: object) -> None:
    if not isinstance(value, dict) or parse_json(dump_json(value)) != value:
        raise ArtifactError(
            f"{name} must be a dict of plain JSON values (text, numbers, lists, dicts with text keys)"
        )
