"""What moves elements and keeps the grid: slice, expand, rearrange, pad."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from subbyte.execute.torch.step import Row, Step

_TORCH_MODES = {"edge": "replicate", "reflect": "reflect"}


def _nhwc(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1) if x.ndim == 4 else x


def _nchw(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2) if x.ndim == 4 else x


def _slice(step: Step, arrays: list[Tensor]) -> Tensor:
    a = step.node.attrs
    rows, columns, channels = (
        slice(begin, end, by) for begin, end, by in zip(a["begin"], a["end"], a["step"], strict=True)
    )
    return arrays[0][:, channels, rows, columns]


def _expand(step: Step, arrays: list[Tensor]) -> Tensor:
    height, width, channels = step.output.shape
    return arrays[0].expand(-1, channels, height, width)


def _rearrange(step: Step, arrays: list[Tensor]) -> Tensor:
    a, images = step.node.attrs, len(arrays[0])
    axes = _nhwc(arrays[0]).reshape(images, *a["dims"]).permute(0, *(axis + 1 for axis in a["perm"]))
    return _nchw(axes.reshape(images, *a["size"]))


def _pad(step: Step, arrays: list[Tensor]) -> Tensor:
    top, bottom, left, right = step.node.attrs["pad"]
    around, mode = (left, right, top, bottom), step.node.attrs["mode"]
    if mode == "zero":
        return F.pad(arrays[0], around, value=step.grid(0).zero if step.quantized else 0.0)
    return F.pad(arrays[0], around, _TORCH_MODES[mode])


ROWS = {
    "slice": Row(_slice),
    "expand": Row(_expand),
    "rearrange": Row(_rearrange),
    "pad": Row(_pad),
}
