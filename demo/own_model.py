"""A network of one's own, for `subbyte compress demo/own_model.py:build --input-size 64 ...`."""

from __future__ import annotations

import torch
from torch import nn


def build() -> nn.Module:
    """Takes float32 [N, 3, H, W], gives scores [N, 3]. Load your weights here; these are random."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU6()),
        *(nn.Conv2d(16, 16, 3, groups=16, padding=1, bias=False), nn.BatchNorm2d(16), nn.SiLU()),
        *(nn.Conv2d(16, 32, 1), nn.Hardswish()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3)),
    )
