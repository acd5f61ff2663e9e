"""One network class for every EfficientNet family: it builds what the block table says."""

from __future__ import annotations

from torch import Tensor, nn

from subbyte.models.blocks import ACTIVATIONS, BLOCKS, convolution
from subbyte.models.tables import Architecture, Stage


class EfficientNet(nn.Module):
    """An image classifier: (N, C, H, W) float32 -> (N, num_classes) float32 logits.

    Any H, W >= 1 runs; the published accuracy holds at the size in the model's preprocessing.
    """

    def __init__(self, architecture: Architecture, num_classes: int) -> None:
        super().__init__()
        net = architecture
        self.act = ACTIVATIONS[net.activation]()
        self.conv_stem = convolution(net.channels, net.stem, 3, stride=2, same=net.same_padding)
        self.bn1 = nn.BatchNorm2d(net.stem, net.bn_eps)
        widths = (net.stem, *(stage.channels for stage in net.stages))
        self.blocks = nn.Sequential(
            *(_stage(inputs, stage, net) for inputs, stage in zip(widths[:-1], net.stages, strict=True))
        )
        self.conv_head = convolution(widths[-1], net.head, 1)
        self.bn2 = nn.BatchNorm2d(net.head, net.bn_eps)
        self.dropout = nn.Dropout(0.0)  # training sets the rate
        self.classifier = nn.Linear(net.head, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn1(self.conv_stem(x)))
        x = self.blocks(x)
        x = self.act(self.bn2(self.conv_head(x)))
        x = x.mean((2, 3))
        if self.training:
            x = self.dropout(x)
        logits: Tensor = self.classifier(x)
        return logits


def _stage(inputs: int, stage: Stage, net: Architecture) -> nn.Sequential:
    block = BLOCKS[stage.kind]
    first = block(inputs, stage, stage.stride, net)
    rest = (block(stage.channels, stage, 1, net) for _ in range(stage.repeats - 1))
    return nn.Sequential(first, *rest)
