"""What moves elements and keeps the grid: slice, expand, rearrange, pad."""

from __future__ import annotations

import numpy as np

from subbyte.execute.reference.step import Step, moving

_NUMPY_MODES = {"edge": "edge", "reflect": "reflect"}


def _slice(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    a = step.node.attrs
    rows, columns, channels = (
        slice(begin, end, by) for begin, end, by in zip(a["begin"], a["end"], a["step"], strict=True)
    )
    return arrays[0][:, rows, columns, channels]


def _rearrange(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    a, images = step.node.attrs, len(arrays[0])
    axes = arrays[0].reshape(images, *a["dims"]).transpose(0, *(axis + 1 for axis in a["perm"]))
    return axes.reshape(images, *a["size"])


def _pad(step: Step, arrays: list[np.ndarray]) -> np.ndarray:
    top, bottom, left, right = step.node.attrs["pad"]
    around, mode = ((0, 0), (top, bottom), (left, right), (0, 0)), step.node.attrs["mode"]
    if mode == "zero":
        zero = step.grid(0).zero_point if step.quantized else 0
        return np.pad(arrays[0], around, constant_values=zero)
    return np.pad(arrays[0], around, _NUMPY_MODES[mode])  # type: ignore[call-overload]


ROWS = {
    "slice": moving(_slice),
    "expand": moving(lambda step, arrays: np.broadcast_to(arrays[0], (len(arrays[0]), *step.output.shape))),
    "rearrange": moving(_rearrange),
    "pad": moving(_pad),
}
