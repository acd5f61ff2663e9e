"""TensorFlow Lite files as networks, without TensorFlow and without torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from subbyte.errors import InputError, UnsupportedOperatorError
from subbyte.importers.table import ImageInput, Imported
from subbyte.importers.tflite.flatbuffer import Damaged
from subbyte.importers.tflite.layers import Asymmetric
from subbyte.importers.tflite.model import MAX_BYTES, Model, read_model
from subbyte.importers.tflite.translate import Translated, input_shape, translate
from subbyte.preprocess import Preprocessing
from subbyte.system.printable import printable

_ASYMMETRIC = "weights have zero points that int8 weights have not; they and all values are real numbers here"


def from_tflite(source: str, weights: str | None, preprocessing: Preprocessing | None) -> Imported:
    """The network of a .tflite file: float32 (weights may be float16 or 8-bit numbers), or in 8 bits.

    A quantized one keeps its grids, weights and biases; one with 8-bit weights whose zero points int8 cannot
    express becomes the float32 network that its numbers stand for, and the provenance says so under
    "dequantized". Outputs are real numbers. A softmax at the end is left out ("left_out"), since tasks and
    losses here take scores; outputs that are neither maps nor vectors are vectors ("shapes").

    Raises InputError for a file that is none, is damaged, or does not fit the preprocessing,
    UnsupportedOperatorError naming operator and place, GraphError for a network beyond what graphs may be.
    """
    assert preprocessing is not None
    data, model = _read(source)
    shape = input_shape_of(source, model)
    if preprocessing.shape != shape:
        raise InputError(
            f"{source} takes images of {' x '.join(map(str, shape))} (height, width, channels), not "
            f"{' x '.join(map(str, preprocessing.shape))}"
        )
    found, dequantized = _translated(source, model)
    if found.graph is None:
        first, *others = found.problems
        more = f"; and {len(others)} more, which `subbyte check` lists" if others else ""
        raise UnsupportedOperatorError(f"{first}{more}", found.problems)
    path = Path(source)
    file = {"file": printable(path.name), "sha256": hashlib.sha256(data).hexdigest()}
    if model.description:
        file["description"] = model.description
    provenance = {"model": printable(path.name), "weights": {"source": "tflite", **file}}
    provenance |= {"dequantized": _ASYMMETRIC} if dequantized else {}
    provenance |= {"left_out": [f"softmax {name}" for name in found.left_out]} if found.left_out else {}
    provenance |= {"shapes": {name: list(shape) for name, shape in found.shapes}} if found.shapes else {}
    return Imported(found.graph, preprocessing, provenance)


def image_input(source: str) -> ImageInput:
    """What the file says of its input. Normalization: of its metadata; of an input of 8-bit codes, else,
    that pixels are the codes.

    Raises InputError for a file that is none, or is damaged.
    """
    _, model = _read(source)
    shape = input_shape_of(source, model)
    tensor, channels = model.tensors[model.input], shape[2]
    if model.normalization is not None:
        mean, std = (values * channels if len(values) == 1 else values for values in model.normalization)
        if len(mean) == channels:
            return ImageInput(shape, tuple(x / 255 for x in mean), tuple(x / 255 for x in std))
    if (
        tensor.dtype in ("int8", "uint8")
        and len(tensor.scale) == len(tensor.zero) == 1
        and tensor.scale[0] > 0
    ):
        zero = int(tensor.zero[0]) + (128 if tensor.dtype == "int8" else 0)
        return ImageInput(shape, (zero / 255,) * channels, (1 / (255 * float(tensor.scale[0])),) * channels)
    return ImageInput(shape)


def input_shape_of(source: str, model: Model) -> tuple[int, int, int]:
    """(H, W, C) of the input. InputError if it is no image."""
    try:
        return input_shape(model)
    except Damaged as error:
        raise _refused(source, error) from None


def _read(source: str) -> tuple[bytes, Model]:
    path = Path(source)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{source} is larger than a TensorFlow Lite file can be")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror or error}") from None
    try:
        return data, read_model(data)
    except Damaged as error:
        raise _refused(source, error) from None


def _translated(source: str, model: Model) -> tuple[Translated, bool]:
    """The graph, and whether its numbers were dequantized."""
    try:
        try:
            return translate(model, real=False), False
        except Asymmetric:
            return translate(model, real=True), True
    except Damaged as error:
        raise _refused(source, error) from None
    except RecursionError:
        raise InputError(f"{source} cannot be imported: its operators follow each other too deeply") from None


def _refused(source: str, error: Damaged) -> InputError:
    return InputError(f"{source} is no TensorFlow Lite file that can be imported: {error}")
