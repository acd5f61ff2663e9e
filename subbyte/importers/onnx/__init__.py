"""ONNX files as graphs, float or as their file quantized them. The only place that knows ONNX operators.

Reading takes `onnx` and `onnx_ir`, not torch.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from subbyte.importers.onnx.integers import integers
from subbyte.importers.onnx.read import read
from subbyte.importers.onnx.translate import translate
from subbyte.importers.table import ImageInput, Imported
from subbyte.preprocess import CHANNELS, Preprocessing


def from_onnx(source: str, weights: str | None, preprocessing: Preprocessing | None) -> Imported:
    """The network of an ONNX file: float32, or quantized as the file says.

    A Softmax behind everything else is left out, with a warning. Raises InputError for a file that cannot be
    read, or whose input is another; UnsupportedOperatorError for operators that have no row.
    """
    assert preprocessing is not None
    model = read(Path(source))
    with np.errstate(all="ignore"):  # numbers that leave float32 are refused by the verifier
        translated = translate(model, preprocessing.shape)
        graph = integers(translated)
    facts = dict(model.facts)
    if translated.notes.shapes:
        facts["shapes"] = {name: list(shape) for name, shape in translated.notes.shapes.items()}
    if translated.notes.left_out:
        facts["left_out"] = list(translated.notes.left_out)
        names = ", ".join(translated.notes.left_out)
        warnings.warn(f"left out: {names}; outputs are the scores before it", stacklevel=2)
    return Imported(graph, preprocessing, {"model": facts["file"], "onnx": facts})


def image_input(source: str) -> ImageInput | None:
    """The size of the file's input; None where it leaves that open, or is no image.

    Channels are second, as ONNX has them, or last. Raises InputError for a file that cannot be read.
    """
    model = read(Path(source))
    sizes = model.inputs[0].shape if len(model.inputs) == 1 else None
    if sizes is None or len(sizes) != 4:
        return None
    _, *rest = sizes
    for channels, height, width in ((rest[0], rest[1], rest[2]), (rest[2], rest[0], rest[1])):
        if channels in CHANNELS and height is not None and width is not None:
            return ImageInput((height, width, channels))
    return None
