"""Normalizations and attention: on float32 values only; sums and quotients in float64, rounded once."""

from __future__ import annotations

import torch
from torch import Tensor

from subbyte.execute.torch.step import Row, Step, per_channel


def _normal(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    d = x - x.mean(axes, keepdim=True)
    return d / torch.sqrt((d * d).mean(axes, keepdim=True) + eps)


def _finish(step: Step, normal: Tensor) -> Tensor:
    weight, bias = (per_channel(step.param(role).double(), normal) for role in ("weight", "bias"))
    return (normal * weight + bias).float()


def _layer_norm(step: Step, arrays: list[Tensor]) -> Tensor:
    return _finish(step, _normal(arrays[0].double(), (1,), step.node.attrs["eps"]))


def _group_norm(step: Step, arrays: list[Tensor]) -> Tensor:
    images, channels, height, width = arrays[0].shape
    groups = step.node.attrs["groups"]
    x = arrays[0].double().reshape(images, groups, channels // groups, height, width)
    normal = _normal(x, (2, 3, 4), step.node.attrs["eps"])
    return _finish(step, normal.reshape(images, channels, height, width))


def _matmul(step: Step, arrays: list[Tensor]) -> Tensor:
    """NCHW tensors of (B, M, K) and (B, N, K)."""
    return torch.einsum("ikbm,ikbn->inbm", arrays[0].double(), arrays[1].double()).float()


ROWS = {
    "layer_norm": Row(_layer_norm),
    "group_norm": Row(_group_norm),
    "softmax": Row(lambda step, arrays: torch.softmax(arrays[0].double(), 1).float()),
    "matmul": Row(_matmul),
}
