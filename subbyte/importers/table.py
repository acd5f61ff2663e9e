"""What a network can be read from, one row each, and the way from there to a float32 graph.

The rows are data: torch is imported by the importers that need it, when they are used.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from subbyte.errors import InputError
from subbyte.ir import Graph
from subbyte.passes import optimize
from subbyte.passes.pipeline import QUANTIZED, apply
from subbyte.preprocess import PerChannel, Preprocessing

if TYPE_CHECKING:
    from torch import nn

Read: TypeAlias = "Callable[[Any, str | None, Preprocessing | None], Imported]"


@dataclass(frozen=True, eq=False)
class Imported:
    """A network as it was read.

    graph: float32, or quantized already as the source is (see `is_quantized`). preprocessing: how an image
    becomes its input. provenance: where it comes from, JSON values, as artifacts keep them. classes: names of
    the elements of its first output; None if not known.
    """

    graph: Graph
    preprocessing: Preprocessing
    provenance: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class ImageInput:
    """What a source says of its input, where it does not say all of a Preprocessing.

    shape: (H, W, C). mean, std: as Preprocessing has them; None if they are not known.
    """

    shape: tuple[int, int, int]
    mean: PerChannel | None = None
    std: PerChannel | None = None


@dataclass(frozen=True)
class Importer:
    """accepts: whether a source (a path is given as text) is of this kind. read: `module:function`, imported
    when it is used; takes the source, weights and preprocessing, gives an Imported.

    own_input: whether a Preprocessing must say what the network's input is, because the source does not.
    weights: whether they are given beside the source. image_input: `module:function`, from a source of
    own_input to the ImageInput that it tells of, or None; "" if none tells. quantized: whether its
    networks may be quantized already. rules: `module:name` of a mapping whose keys are the operators that it
    knows.
    """

    accepts: Callable[[object], bool]
    read: str
    own_input: bool = False
    weights: Literal["none", "optional", "needed"] = "none"
    image_input: str = ""
    quantized: bool = False
    rules: str = "subbyte.importers.torch_export.operators:RULES"


def has_suffix(suffix: str) -> Callable[[object], bool]:
    """Whether a source is the path of a file that ends so, in small letters or large."""
    return lambda source: isinstance(source, str) and source.lower().endswith(suffix)


def _is_module(source: object) -> bool:
    torch = sys.modules.get("torch")  # who holds a module has imported it
    return torch is not None and isinstance(source, torch.nn.Module)


def _is_text(source: object) -> bool:
    return isinstance(source, str)


def _is_callable_of_file(source: object) -> bool:
    return isinstance(source, str) and (source.endswith(".py") or ".py:" in source)


#: Of rows that accept the same source the last one counts: any text may be a name.
IMPORTERS: dict[str, Importer] = {
    "name": Importer(_is_text, "subbyte.importers.torch_module:from_catalog", weights="needed"),
    "file.py:callable": Importer(
        _is_callable_of_file, "subbyte.importers.torch_module:from_file", own_input=True, weights="optional"
    ),
    "module": Importer(_is_module, "subbyte.importers.torch_module:from_module", own_input=True),
    "onnx": Importer(
        has_suffix(".onnx"),
        "subbyte.importers.onnx:from_onnx",
        own_input=True,
        image_input="subbyte.importers.onnx:image_input",
        quantized=True,
        rules="subbyte.importers.onnx.ops:ROWS",
    ),
    "pt2": Importer(has_suffix(".pt2"), "subbyte.importers.torch_module:from_archive", own_input=True),
    "artifact": Importer(has_suffix(".subbyte"), "subbyte.importers.artifact_file:from_artifact"),
    "tflite": Importer(
        has_suffix(".tflite"),
        "subbyte.importers.tflite:from_tflite",
        own_input=True,
        image_input="subbyte.importers.tflite:image_input",
        quantized=True,
        rules="subbyte.importers.tflite.operators:RULES",
    ),
}


def importer_of(source: object) -> Importer:
    """The row for a source. InputError if it is nothing that a network can be read from."""
    text = str(source) if isinstance(source, Path) else source
    for row in reversed(IMPORTERS.values()):
        if row.accepts(text):
            return row
    raise InputError(f"a network is a torch module, a name or a file, not a {type(source).__name__}")


def is_quantized(graph: Graph) -> bool:
    """Whether a value of the graph is on a grid."""
    return any(value.q is not None for value in graph.values.values())


def image_input(source: str) -> ImageInput | None:
    """What a source of own input tells of it, None if nothing. Raises what its importer raises."""
    row = importer_of(source)
    return _function(row.image_input)(source) if row.image_input else None


def known_operators(source: str) -> tuple[str, ...]:
    """Names of the operators that can be imported from such a source."""
    return tuple(name for name in _function(importer_of(source).rules) if not name.startswith("_"))


def _function(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def import_model(
    source: str | Path | nn.Module | Imported,
    *,
    weights: str | Path | None = None,
    preprocessing: Preprocessing | None = None,
) -> Imported:
    """The network of `source` as an optimized float32 graph, or as it is if it is quantized already, with
    what is known of it.

    source: the name of a network of the catalog; `path/to/file.py:callable`, which is run and returns a torch
    module; a torch module that takes float32 [N, C, H, W]; the path of an ONNX file, of a program that
    torch.export.save wrote (.pt2), of a TensorFlow Lite file, or of a float32 artifact; or what this function
    returned, as it is.
    weights: of a name, a checkpoint file, `hub`, `package` or `random` (see subbyte.models.load); of a
    callable, a checkpoint file, if any. preprocessing: the input of a callable, a module, or a file of
    another framework (a TensorFlow Lite file may say it itself, then None is enough); the others say it
    themselves.

    Raises InputError for what does not fit together, UnsupportedOperatorError for an operator outside the
    supported set, SubbyteError for a module that torch.export cannot trace.
    """
    if isinstance(source, Imported):
        if weights is not None or preprocessing is not None:
            raise InputError("an imported network has its weights and preprocessing; leave them out")
        return source
    row, text = importer_of(source), str(source) if isinstance(source, Path) else source
    shown = text if isinstance(text, str) else type(text).__name__
    if row.image_input and preprocessing is None:
        preprocessing = _told(row, str(text))
    if row.own_input and preprocessing is None:
        raise InputError(f"{shown} needs a preprocessing, which says what its input is")
    if not row.own_input and preprocessing is not None:
        raise InputError(f"{shown} says itself what its input is; leave the preprocessing out")
    if row.weights == "none" and weights is not None:
        raise InputError(f"{shown} has weights of its own; leave the others out")
    read: Read = _function(row.read)
    found = read(text, None if weights is None else str(weights), preprocessing)
    done = apply(found.graph, QUANTIZED) if is_quantized(found.graph) else optimize(found.graph)
    return replace(found, graph=done)


def _told(row: Importer, source: str) -> Preprocessing | None:
    """What a source says of its input, if that is enough."""
    found: ImageInput | None = _function(row.image_input)(source)
    if found is None or found.mean is None or found.std is None:
        return None
    return Preprocessing(*found.shape[:2], found.mean, found.std)
