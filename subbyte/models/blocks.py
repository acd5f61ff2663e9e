"""The building blocks, with the parameter names of the published checkpoints.

All tensors are NCHW float32. Parameter and buffer names and their order follow timm, so that
its checkpoints load unchanged.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from subbyte.models.tables import Architecture, Stage, round_channels

ACTIVATIONS: dict[str, type[nn.Module]] = {"silu": nn.SiLU, "relu": nn.ReLU, "relu6": nn.ReLU6}


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after one side so that ceil(size / stride) outputs fit (TensorFlow's SAME).

    An odd total puts the extra zero after.
    """
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding, computed from the input's size.

    With static shapes the padding is a constant: one pad operation before the convolution in an
    exported program, none where nothing is padded.
    """

    def forward(self, input: Tensor) -> Tensor:
        top, bottom = same_padding(input.shape[-2], self.kernel_size[0], self.stride[0])
        left, right = same_padding(input.shape[-1], self.kernel_size[1], self.stride[1])
        if top or bottom or left or right:
            input = F.pad(input, (left, right, top, bottom))
        return F.conv2d(input, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, same: bool = False
) -> nn.Conv2d:
    """A bias-free convolution, padded with kernel // 2 zeros on each side or as SAME.

    Both are the same thing at stride 1 (kernels are odd), so only strided ones differ.
    """
    if same and stride > 1:
        return SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


class StochasticDepth(nn.Module):
    """Before the sum of a residual block: while training, leaves the branch out for a share `rate` of the
    images, and divides what stays by 1 - rate (arXiv 1603.09382). Else, and with the rate 0, x itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rate = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.rate):
            return x
        kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.rate
        return x * (kept / (1.0 - self.rate)).to(x.dtype)


class SqueezeExcite(nn.Module):
    """x * sigmoid(expand(act(reduce(mean over H, W)))) (arXiv 1709.01507)."""

    def __init__(self, channels: int, squeezed: int, activation: nn.Module) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = activation
        self.conv_expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.conv_expand(self.act(self.conv_reduce(pooled))))


def _squeeze_excite(stage: Stage, channels: int, activation: nn.Module) -> nn.Module:
    """The gate on a tensor of `channels`; the squeeze is counted from the block's input width."""
    if not stage.se:
        return nn.Identity()
    return SqueezeExcite(channels, round(channels * (stage.se / stage.expand)), activation)


class ConvBlock(nn.Module):
    """cn: convolution, batch norm, activation; plus the input where the shapes agree."""

    def __init__(self, inputs: int, stage: Stage, stride: int, net: Architecture) -> None:
        super().__init__()
        self.residual = stage.residual and stride == 1 and inputs == stage.channels
        self.drop = StochasticDepth()
        self.act = ACTIVATIONS[net.activation]()
        self.conv = convolution(inputs, stage.channels, stage.kernel, stride, same=net.same_padding)
        self.bn1 = nn.BatchNorm2d(stage.channels, net.bn_eps)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.bn1(self.conv(x)))
        return self.drop(y) + x if self.residual else y


class DepthwiseSeparable(nn.Module):
    """ds: depthwise convolution, squeeze-and-excitation, linear 1x1 projection."""

    def __init__(self, inputs: int, stage: Stage, stride: int, net: Architecture) -> None:
        super().__init__()
        self.residual = stage.residual and stride == 1 and inputs == stage.channels
        self.drop = StochasticDepth()
        self.act = ACTIVATIONS[net.activation]()
        self.conv_dw = convolution(inputs, inputs, stage.kernel, stride, groups=inputs, same=net.same_padding)
        self.bn1 = nn.BatchNorm2d(inputs, net.bn_eps)
        self.se = _squeeze_excite(stage, inputs, self.act)
        self.conv_pw = convolution(inputs, stage.channels, 1)
        self.bn2 = nn.BatchNorm2d(stage.channels, net.bn_eps)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.se(self.act(self.bn1(self.conv_dw(x))))
        y = self.bn2(self.conv_pw(y))
        return self.drop(y) + x if self.residual else y


class MBConv(nn.Module):
    """ir: 1x1 expansion, depthwise convolution, squeeze-and-excitation, linear 1x1 projection."""

    def __init__(self, inputs: int, stage: Stage, stride: int, net: Architecture) -> None:
        super().__init__()
        self.residual = stage.residual and stride == 1 and inputs == stage.channels
        self.drop = StochasticDepth()
        self.act = ACTIVATIONS[net.activation]()
        hidden = round_channels(inputs * stage.expand)
        self.conv_pw = convolution(inputs, hidden, 1)
        self.bn1 = nn.BatchNorm2d(hidden, net.bn_eps)
        self.conv_dw = convolution(hidden, hidden, stage.kernel, stride, groups=hidden, same=net.same_padding)
        self.bn2 = nn.BatchNorm2d(hidden, net.bn_eps)
        self.se = _squeeze_excite(stage, hidden, self.act)
        self.conv_pwl = convolution(hidden, stage.channels, 1)
        self.bn3 = nn.BatchNorm2d(stage.channels, net.bn_eps)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.bn1(self.conv_pw(x)))
        y = self.se(self.act(self.bn2(self.conv_dw(y))))
        y = self.bn3(self.conv_pwl(y))
        return self.drop(y) + x if self.residual else y


class FusedMBConv(nn.Module):
    """er: k x k expansion convolution, linear 1x1 projection."""

    def __init__(self, inputs: int, stage: Stage, stride: int, net: Architecture) -> None:
        super().__init__()
        self.residual = stage.residual and stride == 1 and inputs == stage.channels
        self.drop = StochasticDepth()
        self.act = ACTIVATIONS[net.activation]()
        hidden = round_channels((stage.expand_from or inputs) * stage.expand)
        self.conv_exp = convolution(inputs, hidden, stage.kernel, stride, same=net.same_padding)
        self.bn1 = nn.BatchNorm2d(hidden, net.bn_eps)
        self.se = _squeeze_excite(stage, hidden, self.act)
        self.conv_pwl = convolution(hidden, stage.channels, 1)
        self.bn2 = nn.BatchNorm2d(stage.channels, net.bn_eps)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.se(self.act(self.bn1(self.conv_exp(x))))
        y = self.bn2(self.conv_pwl(y))
        return self.drop(y) + x if self.residual else y


BLOCKS = {"cn": ConvBlock, "ds": DepthwiseSeparable, "ir": MBConv, "er": FusedMBConv}
