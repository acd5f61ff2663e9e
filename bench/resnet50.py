"""ResNet-50 with random weights (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016).

Strides lie in the 3 x 3 convolutions, as in torchvision and timm.
"""

from __future__ import annotations

import torch
from torch import nn

#: Width, blocks and stride of the first block of each stage.
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
EXPANSION = 4


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 beside a shortcut: [N, inputs, H, W] to [N, 4 width, H / stride, W / stride]."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = EXPANSION * width
        self.body = nn.Sequential(
            *normalized(inputs, width, 1, 1),
            nn.ReLU(),
            *normalized(width, width, 3, stride),
            nn.ReLU(),
            *normalized(width, outputs, 1, 1),
        )
        changes = stride != 1 or inputs != outputs
        self.shortcut = nn.Sequential(*normalized(inputs, outputs, 1, stride)) if changes else nn.Identity()
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [N, inputs, H, W]."""
        result: torch.Tensor = self.act(self.body(x) + self.shortcut(x))
        return result


def normalized(inputs: int, outputs: int, kernel: int, stride: int) -> tuple[nn.Module, nn.Module]:
    """A convolution without bias that keeps the size up to its stride, and its batch norm."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(outputs)


def resnet50(classes: int = 1000) -> nn.Sequential:
    """float32 [N, 3, H, W] to logits [N, classes], for inference; torch's initial weights, seed 0."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [*normalized(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for width, blocks, stride in STAGES:
        for i in range(blocks):
            layers.append(Bottleneck(inputs, width, stride if i == 0 else 1))
            inputs = EXPANSION * width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)]
    return nn.Sequential(*layers).eval()
