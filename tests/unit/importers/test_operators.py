"""Every row of the operator table against torch, within the float32 bound of the numerics page."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from subbyte.errors import UnsupportedOperatorError
from subbyte.execute import reference
from subbyte.importers.torch_export import capture
from subbyte.ir import Graph

Shape = tuple[int, int, int]
Results = torch.Tensor | tuple[torch.Tensor, ...]


class Apply(nn.Module):
    """A function with the layers it needs."""

    def __init__(self, function: Callable[..., Results], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.function = function

    def forward(self, x: torch.Tensor) -> Results:
        return self.function(self, x)


def gate(m: Apply, x: torch.Tensor) -> torch.Tensor:
    assert isinstance(m.conv, nn.Conv2d)
    return m.conv(x).mean((2, 3), keepdim=True).sigmoid()


def conv(*args: Any, **kwargs: Any) -> nn.Conv2d:
    return nn.Conv2d(*args, **kwargs)


# name -> (module, shape, ops of the graph)
CASES: dict[str, tuple[nn.Module, Shape, str]] = {
    "conv": (conv(3, 5, 3), (7, 6, 3), "conv2d"),
    "conv no bias": (conv(3, 5, 3, bias=False), (7, 6, 3), "conv2d"),
    "conv stride and pad": (conv(3, 4, (3, 5), stride=(2, 1), padding=(1, 2)), (8, 9, 3), "conv2d"),
    "conv grouped": (conv(6, 9, 3, groups=3, padding=1), (5, 5, 6), "conv2d"),
    "conv depthwise": (conv(6, 6, 5, groups=6, padding=2, stride=2), (7, 7, 6), "conv2d"),
    "conv depth multiplier": (conv(3, 6, 3, groups=3), (5, 5, 3), "conv2d"),
    "conv same, even kernel": (conv(3, 4, (4, 3), padding="same"), (6, 5, 3), "conv2d"),
    "conv valid": (conv(3, 4, 3, padding="valid"), (6, 5, 3), "conv2d"),
    "conv op": (
        Apply(
            lambda m, x: torch.convolution(x, m.c.weight, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1),
            c=conv(3, 4, 3),
        ),
        (6, 6, 3), "conv2d",
    ),
    "asymmetric pad": (
        Apply(lambda m, x: m.c(F.pad(x, (0, 1, 1, 2))), c=conv(3, 4, 3, stride=2)), (6, 7, 3), "conv2d"
    ),
    "pad twice and own padding": (
        Apply(lambda m, x: m.c(F.pad(F.pad(x, (1, 0)), (0, 1, 0, 1))), c=conv(3, 4, 5, padding=1)),
        (6, 7, 3), "conv2d",
    ),
    "zero pad module": (nn.Sequential(nn.ZeroPad2d((1, 0, 0, 2)), conv(3, 4, 3)), (6, 6, 3), "conv2d"),
    "batch norm": (nn.BatchNorm2d(4), (3, 5, 4), "batch_norm"),
    "batch norm without affine": (nn.BatchNorm2d(4, eps=0.1, affine=False), (3, 5, 4), "batch_norm"),
    "batch norm on vectors": (
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(4)),
        (3, 5, 4), "global_avg_pool flatten batch_norm",
    ),
    "relu": (nn.ReLU(), (3, 5, 4), "activation"),
    "relu in place": (Apply(lambda m, x: F.relu_(m.c(x)), c=conv(4, 3, 1)), (3, 5, 4), "conv2d activation"),
    "relu by clamp": (Apply(lambda m, x: x.clamp(min=0)), (3, 5, 4), "activation"),
    "relu by clamp_min": (Apply(lambda m, x: x.clamp_min(0.0)), (3, 5, 4), "activation"),
    "relu6": (nn.ReLU6(), (3, 5, 4), "activation"),
    "relu6 function": (Apply(lambda m, x: F.relu6(x)), (3, 5, 4), "activation"),
    "relu6 by hardtanh": (nn.Hardtanh(0, 6), (3, 5, 4), "activation"),
    "relu6 by clamp": (Apply(lambda m, x: x.clamp(0, 6)), (3, 5, 4), "activation"),
    "silu": (nn.SiLU(), (3, 5, 4), "activation"),
    "silu by hand": (Apply(lambda m, x: x * torch.sigmoid(x)), (3, 5, 4), "activation"),
    "hardswish": (nn.Hardswish(), (3, 5, 4), "activation"),
    "hardswish by hand": (Apply(lambda m, x: F.hardsigmoid(x) * x), (3, 5, 4), "activation"),
    "sigmoid": (nn.Sigmoid(), (3, 5, 4), "activation"),
    "hardsigmoid": (nn.Hardsigmoid(), (3, 5, 4), "activation"),
    "gelu": (nn.GELU(), (3, 5, 4), "activation"),
    "tanh": (nn.Tanh(), (3, 5, 4), "activation"),
    "leaky relu": (nn.LeakyReLU(), (3, 5, 4), "activation"),
    "leaky relu, own slope": (nn.LeakyReLU(-0.2), (3, 5, 4), "activation"),
    "prelu": (nn.PReLU(), (3, 5, 4), "activation"),
    "prelu, one slope for all channels": (
        Apply(lambda m, x: F.prelu(x, torch.full((4,), 0.3))), (3, 5, 4), "activation"
    ),
    "rrelu": (nn.RReLU(0.1, 0.4), (3, 5, 4), "activation"),
    "tanh gelu": (nn.GELU(approximate="tanh"), (3, 5, 4), "activation"),
    "elu": (nn.ELU(1.5), (3, 5, 4), "activation"),
    "selu": (nn.SELU(), (3, 5, 4), "activation"),
    "celu": (nn.CELU(0.5), (3, 5, 4), "activation"),
    "mish": (nn.Mish(), (3, 5, 4), "activation"),
    "softplus": (nn.Softplus(), (3, 5, 4), "activation"),
    "softplus, own beta and threshold": (nn.Softplus(0.25, 30), (3, 5, 4), "activation"),
    "hardtanh": (nn.Hardtanh(), (3, 5, 4), "activation"),
    "clamp": (Apply(lambda m, x: x.clamp(-0.5, 2)), (3, 5, 4), "activation"),
    "clamp_max": (Apply(lambda m, x: x.clamp_max(0.5)), (3, 5, 4), "activation"),
    "clamp_min elsewhere": (Apply(lambda m, x: x.clamp_min(-1.5)), (3, 5, 4), "activation"),
    "add": (Apply(lambda m, x: x + m.c(x), c=conv(4, 4, 1)), (3, 5, 4), "conv2d add"),
    "add twice": (Apply(lambda m, x: x + x), (3, 5, 4), "add"),
    "add of pooled": (
        Apply(lambda m, x: x.mean((2, 3)) + m.c(x).mean((2, 3)), c=conv(4, 4, 1)),
        (3, 5, 4), "global_avg_pool conv2d global_avg_pool add flatten",
    ),
    "add a constant": (Apply(lambda m, x: 1.5 + x), (3, 5, 4), "batch_norm"),
    "scale and shift": (
        Apply(lambda m, x: (x - m.t["mean"].view(1, 4, 1, 1)) / m.t["std"].view(4, 1, 1),
              t=nn.ParameterDict({"mean": torch.zeros(4), "std": torch.full((4,), 1.3)})),
        (3, 5, 4), "batch_norm batch_norm",
    ),
    "reversed difference": (Apply(lambda m, x: 2 - x * 0.5), (3, 5, 4), "batch_norm batch_norm"),
    "gate": (
        Apply(lambda m, x: x * gate(m, x), conv=conv(4, 4, 1)),
        (3, 5, 4), "conv2d global_avg_pool activation mul",
    ),
    "gate first": (
        Apply(lambda m, x: gate(m, x) * x, conv=conv(4, 4, 1)),
        (3, 5, 4), "conv2d global_avg_pool activation mul",
    ),
    "gate expanded": (
        Apply(lambda m, x: x * gate(m, x).expand_as(x), conv=conv(4, 4, 1)),
        (3, 5, 4), "conv2d global_avg_pool activation mul",
    ),
    "gate on 1x1": (
        nn.Sequential(
            nn.AdaptiveAvgPool2d(1), Apply(lambda m, x: x * m.conv(x).sigmoid(), conv=conv(4, 4, 1))
        ),
        (3, 5, 4), "global_avg_pool conv2d activation mul",
    ),
    "mean": (Apply(lambda m, x: x.mean((-1, -2), keepdim=True)), (3, 5, 4), "global_avg_pool"),
    "mean to vector": (Apply(lambda m, x: x.mean([2, 3])), (3, 5, 4), "global_avg_pool flatten"),
    "mean of flattened": (Apply(lambda m, x: x.flatten(2).mean(2)), (3, 5, 4), "global_avg_pool flatten"),
    "adaptive average pool": (nn.AdaptiveAvgPool2d((1, 1)), (3, 5, 4), "global_avg_pool"),
    "adaptive average pool, own size": (
        nn.Sequential(nn.AdaptiveAvgPool2d((3, 5)), nn.ReLU()), (3, 5, 4), "activation"
    ),
    "average pool of everything": (Apply(lambda m, x: F.avg_pool2d(x, (3, 5))), (3, 5, 4), "global_avg_pool"),
    "global maximum": (Apply(lambda m, x: x.amax((2, 3))), (3, 5, 4), "max_pool2d flatten"),
    "adaptive max pool": (nn.AdaptiveMaxPool2d(1), (3, 5, 4), "max_pool2d"),
    "negative": (Apply(lambda m, x: -x), (3, 5, 4), "batch_norm"),
    "max pool": (nn.MaxPool2d(2), (6, 8, 4), "max_pool2d"),
    "max pool padded": (nn.MaxPool2d(3, 2, 1), (7, 8, 4), "max_pool2d"),
    "max pool, ceil mode": (nn.MaxPool2d(3, 2, ceil_mode=True), (8, 9, 4), "max_pool2d"),
    "max pool, ceil mode, padded": (nn.MaxPool2d(3, 3, 1, ceil_mode=True), (8, 9, 4), "max_pool2d"),
    "max pool of a padded map": (
        Apply(lambda m, x: F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), 3, 2)),
        (8, 8, 4), "max_pool2d",
    ),
    "max pool with indices": (
        Apply(lambda m, x: F.max_pool2d(x, 2, return_indices=True)[0]), (6, 6, 4), "max_pool2d"
    ),
    "concat": (
        Apply(lambda m, x: torch.cat([x, m.c(x), x], 1), c=conv(4, 3, 1)), (3, 5, 4), "conv2d concat"
    ),
    "concat of vectors": (
        Apply(lambda m, x: torch.cat([x.mean((2, 3)), m.c(x).mean((2, 3))], -1), c=conv(4, 3, 1)),
        (3, 5, 4), "global_avg_pool conv2d global_avg_pool flatten flatten concat",
    ),
    "linear": (
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6)),
        (3, 5, 4), "global_avg_pool flatten linear",
    ),
    "linear no bias": (
        Apply(lambda m, x: m.l(x.mean((2, 3))), l=nn.Linear(4, 6, bias=False)),
        (3, 5, 4), "global_avg_pool flatten linear",
    ),
    "linear on a flattened map": (nn.Sequential(nn.Flatten(), nn.Linear(60, 6)), (3, 5, 4), "flatten linear"),
    "linear behind activation of a flattened map": (
        nn.Sequential(conv(4, 4, 1), nn.Flatten(), nn.ReLU(), nn.Linear(60, 6), nn.Tanh(), nn.Linear(6, 2)),
        (3, 5, 4), "conv2d activation flatten linear activation linear",
    ),
    "linear on view": (
        Apply(lambda m, x: m.l(x.mean((2, 3), True).view(x.shape[0], -1)), l=nn.Linear(4, 6)),
        (3, 5, 4), "global_avg_pool flatten linear",
    ),
    "linear on reshape": (
        Apply(lambda m, x: m.l(x.reshape(-1, 60)), l=nn.Linear(60, 6)), (3, 5, 4), "flatten linear"
    ),
    "linear on squeeze": (
        Apply(lambda m, x: m.l(x.mean((2, 3), True).squeeze(-1).squeeze(-1)), l=nn.Linear(4, 6)),
        (3, 5, 4), "global_avg_pool flatten linear",
    ),
    "addmm": (
        Apply(lambda m, x: torch.addmm(m.l.bias, x.mean((2, 3)), m.l.weight.t()), l=nn.Linear(4, 6)),
        (3, 5, 4), "global_avg_pool flatten linear",
    ),
    "matmul": (
        Apply(lambda m, x: x.mean((2, 3)) @ m.l.weight.t(), l=nn.Linear(4, 6)),
        (3, 5, 4), "global_avg_pool flatten linear",
    ),
    "mm": (
        Apply(lambda m, x: torch.mm(x.mean((2, 3)), m.l.weight.t()), l=nn.Linear(4, 6)),
        (3, 5, 4), "global_avg_pool flatten linear",
    ),
    "unsqueeze": (
        Apply(lambda m, x: m.c(x.mean((2, 3)).unsqueeze(-1).unsqueeze(-1)), c=conv(4, 6, 1)),
        (3, 5, 4), "global_avg_pool conv2d",
    ),
    "no-ops": (
        Apply(lambda m, x: m.c(m.i(m.d(x))).contiguous().clone().float().detach(),
              c=conv(4, 3, 1), i=nn.Identity(), d=nn.Dropout2d()),
        (3, 5, 4), "conv2d",
    ),
    "dropout": (Apply(lambda m, x: F.dropout(m.c(x), 0.4, False), c=conv(4, 3, 1)), (3, 5, 4), "conv2d"),
    "weights that are computed": (
        Apply(lambda m, x: F.conv2d(x, m.c.weight / m.c.weight.norm()), c=conv(4, 3, 1)), (3, 5, 4), "conv2d"
    ),
    "dilation": (conv(3, 3, 2, dilation=(2, 1)), (4, 6, 3), "conv2d"),
    "dilation, grouped": (conv(4, 6, 3, padding=(2, 3), dilation=(2, 3), groups=2), (5, 6, 4), "conv2d"),
    "dilation, same": (conv(4, 6, (3, 4), padding="same", dilation=2), (7, 8, 4), "conv2d"),
    "transposed": (nn.ConvTranspose2d(3, 4, 3), (4, 6, 3), "conv2d"),
    "transposed, twice as large": (
        nn.ConvTranspose2d(3, 4, 2, stride=2), (4, 5, 3), "conv2d rearrange"
    ),
    "transposed with padding": (
        nn.ConvTranspose2d(3, 4, (3, 4), stride=(2, 3), padding=(1, 2), output_padding=(1, 0)),
        (4, 5, 3), "conv2d rearrange slice",
    ),
    "transposed, grouped": (
        nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, bias=False, output_padding=1), (4, 5, 4),
        "conv2d rearrange",
    ),
    "transposed, kernel smaller than stride": (
        nn.ConvTranspose2d(3, 4, 1, stride=3, bias=False, output_padding=2), (4, 5, 3), "conv2d rearrange"
    ),
    "upsampled, nearest": (nn.Upsample(scale_factor=2), (4, 5, 3), "resize_nearest"),
    "upsampled, nearest exact": (nn.Upsample((7, 3), mode="nearest-exact"), (4, 5, 3), "resize_nearest"),
    "upsampled, bilinear": (nn.Upsample(scale_factor=2, mode="bilinear"), (4, 5, 3), "resize_bilinear"),
    "upsampled, to a size": (nn.Upsample((9, 3), mode="bilinear"), (4, 5, 3), "resize_bilinear"),
    "upsampled, aligned": (
        nn.Upsample((9, 3), mode="bilinear", align_corners=True), (4, 5, 3), "resize_bilinear"
    ),
    "group norm": (nn.GroupNorm(2, 6), (3, 5, 6), "group_norm"),
    "instance norm": (nn.InstanceNorm2d(4, affine=True), (3, 5, 4), "group_norm"),
    "layer norm of everything": (nn.LayerNorm((3, 4, 6), elementwise_affine=False), (4, 6, 3), "group_norm"),
    "layer norm, channels last": (
        Apply(lambda m, x: m.n(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), n=nn.LayerNorm(4)),
        (3, 5, 4), "layer_norm",
    ),
    "block of channels last": (
        Apply(
            lambda m, x: x + m.b(F.gelu(m.a(m.n(m.c(x).permute(0, 2, 3, 1))))).mul(
                m.n.weight).permute(0, 3, 1, 2),
            c=conv(4, 4, 3, padding=1, groups=4), n=nn.LayerNorm(4), a=nn.Linear(4, 12), b=nn.Linear(12, 4),
        ),
        (3, 5, 4), "conv2d layer_norm conv2d activation conv2d batch_norm add",
    ),
    "average pool": (nn.AvgPool2d(3, 2), (6, 7, 4), "avg_pool2d"),
    "average pool, padded": (nn.AvgPool2d((3, 2), 2, (1, 0)), (6, 7, 4), "avg_pool2d"),
    "average pool that counts": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), (6, 7, 4), "avg_pool2d"),
    "average pool, ceil mode": (
        nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False), (5, 7, 4), "avg_pool2d"
    ),
    "adaptive average pool that divides": (nn.AdaptiveAvgPool2d((2, 3)), (4, 6, 4), "avg_pool2d"),
    "adaptive average pool to another size": (
        nn.AdaptiveAvgPool2d((3, 7)), (4, 6, 4), "adaptive_avg_pool2d"
    ),
    "adaptive max pool that divides": (nn.AdaptiveMaxPool2d(2), (4, 6, 4), "max_pool2d"),
    "product": (Apply(lambda m, x: x * m.c(x), c=conv(4, 4, 1)), (3, 5, 4), "conv2d multiply"),
    "square": (Apply(lambda m, x: x**2), (3, 5, 4), "multiply"),
    "difference": (Apply(lambda m, x: x - m.c(x), c=conv(4, 4, 1)), (3, 5, 4), "conv2d subtract"),
    "spatial gate": (
        Apply(lambda m, x: x * m.c(x).sigmoid(), c=conv(4, 1, 1)),
        (3, 5, 4), "conv2d activation expand multiply",
    ),
    "sum with a vector": (
        Apply(lambda m, x: x + x.mean((2, 3), True)), (3, 5, 4), "global_avg_pool expand add"
    ),
    "several slopes": (
        Apply(lambda m, x: F.prelu(x, torch.tensor([0.1, 0.2, -0.5, 3.0]))), (3, 5, 4), "prelu"
    ),
    "constant of each place": (
        Apply(lambda m, x: x + m.t["p"], t=nn.ParameterDict({"p": torch.ones(1, 4, 3, 5)})),
        (3, 5, 4), "rearrange batch_norm rearrange",
    ),
    "mean of one axis": (Apply(lambda m, x: x.mean(2)), (3, 5, 4), "rearrange global_avg_pool rearrange"),
    "mean of channels": (
        Apply(lambda m, x: x.mean(1, True)), (3, 5, 4), "rearrange global_avg_pool rearrange"
    ),
    "sum of channels": (
        Apply(lambda m, x: x.sum(1, True)), (3, 5, 4), "rearrange global_avg_pool batch_norm rearrange"
    ),
    "maximum of channels": (
        Apply(lambda m, x: x.amax(1, True)), (3, 5, 4), "rearrange max_pool2d rearrange"
    ),
    "pad": (nn.ZeroPad2d((1, 2, 0, 3)), (3, 5, 4), "pad"),
    "reflection": (nn.ReflectionPad2d((1, 2, 2, 1)), (3, 5, 4), "pad"),
    "replication": (
        nn.Sequential(nn.ReplicationPad2d((3, 0, 1, 4)), conv(4, 3, 3)), (3, 5, 4), "pad conv2d"
    ),
    "zero pad before max pool": (
        Apply(lambda m, x: F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 2, 1)), (3, 5, 4), "pad max_pool2d"
    ),
    "pad of channels": (
        Apply(lambda m, x: F.pad(x, (0, 0, 0, 0, 1, 2))), (3, 5, 4), "rearrange pad rearrange"
    ),
    "crop": (Apply(lambda m, x: m.c(F.pad(x, (-1, 1))), c=conv(4, 3, 3)), (5, 6, 4), "slice conv2d"),
    "pad larger than kernel": (conv(4, 3, 1, padding=1), (3, 5, 4), "pad conv2d"),
    "concat of rows": (
        Apply(lambda m, x: torch.cat([x, m.c(x)], 2), c=conv(4, 4, 1)),
        (3, 5, 4), "conv2d rearrange rearrange concat rearrange",
    ),
    "flattened map as output": (nn.Sequential(nn.ReLU(), nn.Flatten()), (3, 5, 4), "activation rearrange"),
    "transpose": (Apply(lambda m, x: m.c(x.transpose(2, 3)), c=conv(4, 3, 3)), (3, 5, 4), "rearrange conv2d"),
    "another shape": (
        Apply(lambda m, x: m.c(x.reshape(len(x), 4, 6, 4)), c=conv(4, 3, 3)),
        (4, 6, 4), "rearrange conv2d",
    ),
    "split": (
        Apply(lambda m, x: torch.cat([m.c(x.split([1, 3], 1)[1]), x[:, :1]], 1), c=conv(3, 3, 1)),
        (3, 5, 4), "slice slice conv2d concat",
    ),
    "chunk": (
        Apply(lambda m, x: (lambda a, b: a * b.sigmoid())(*x.chunk(2, 1))),
        (3, 5, 4), "slice slice activation multiply",
    ),
    "every other": (
        Apply(lambda m, x: m.c(torch.cat([x[..., ::2, ::2], x[..., 1::2, 1::2]], 1)), c=conv(8, 3, 1)),
        (4, 6, 4), "slice slice concat conv2d",
    ),
    "channel shuffle": (
        Apply(
            lambda m, x: m.c(x.view(len(x), 2, 3, 4, 5).transpose(1, 2).reshape(x.shape)), c=conv(6, 3, 1)
        ),
        (4, 5, 6), "rearrange conv2d",
    ),
    "channel shuffle, one operator": (nn.ChannelShuffle(3), (4, 5, 6), "rearrange"),
    "pixel shuffle": (nn.PixelShuffle(2), (3, 4, 12), "rearrange"),
    "pixel unshuffle": (nn.PixelUnshuffle(2), (6, 4, 3), "rearrange"),
    "softmax": (nn.Softmax(1), (3, 5, 4), "softmax"),
    "softmax of columns": (nn.Softmax(3), (3, 5, 4), "rearrange softmax rearrange"),
    "product of matrices": (
        Apply(lambda m, x: x.transpose(2, 3) @ m.c(x), c=conv(4, 4, 1)),
        (3, 5, 4), "conv2d rearrange rearrange matmul rearrange",
    ),
    "efficient channel attention": (
        Apply(
            lambda m, x: x * m.c(x.mean((2, 3)).unsqueeze(1)).sigmoid().view(len(x), -1, 1, 1),
            c=nn.Conv1d(1, 1, 3, padding=1, bias=False),
        ),
        (3, 5, 4), "global_avg_pool conv2d activation mul",
    ),
    "sequence": (
        Apply(lambda m, x: m.c(x.flatten(2)), c=nn.Conv1d(4, 6, 3, padding=1)), (3, 5, 4),
        "rearrange conv2d rearrange",
    ),
    "two outputs": (
        Apply(lambda m, x: (m.c(x), x.mean((2, 3)))[::-1], c=conv(4, 3, 1)),
        (3, 5, 4), "conv2d global_avg_pool flatten",
    ),
}  # fmt: skip


def normed(m: Apply, x: torch.Tensor) -> torch.Tensor:
    """Global response normalization (arXiv 2301.00808)."""
    size = x.norm(p=2, dim=(2, 3), keepdim=True)
    return x + x * (size / (size.mean(1, keepdim=True) + 1e-3))


class Halves(nn.Module):
    """What in-place functions change is read through the views again."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.act = conv(2, 2, 1), conv(2, 2, 1), nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u, v = (x * 1).split(2, 1)
        u = self.act(self.a(self.act(u)))
        return torch.cat([u, self.b(v + u)], 1)


def written(m: Apply, x: torch.Tensor) -> torch.Tensor:
    y = x + 1
    y[:, :, 1:] = y[:, :, 1:] * 2
    y[:, 0] = 3
    y[:, 1] = x[:, 2]
    z = torch.zeros_like(x)
    z[:, :, :, ::2] = x[:, :1, :, ::2]
    return y + z


def windows(x: torch.Tensor) -> torch.Tensor:
    """Four of an image, as a batch."""
    return x.unflatten(2, (2, -1)).unflatten(4, (2, -1)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def with_token(m: Apply, x: torch.Tensor) -> torch.Tensor:
    assert isinstance(m.t, nn.ParameterDict)
    tokens = torch.cat([m.t["token"].expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1)
    return tokens + m.t["places"]


def attended(m: Apply, x: torch.Tensor, **options: Any) -> torch.Tensor:
    tokens = x.flatten(2).transpose(1, 2).unflatten(2, (2, 2)).transpose(1, 2)
    return F.scaled_dot_product_attention(tokens, tokens, tokens, **options)


def one_key_head(m: Apply, x: torch.Tensor) -> torch.Tensor:
    """Heads of queries that share one head of keys and values (arXiv 1911.02150)."""
    tokens = x.flatten(2).transpose(1, 2)
    queries = tokens.unflatten(2, (2, 2)).transpose(1, 2)
    return F.scaled_dot_product_attention(queries, tokens[:, None, :, :2], tokens[:, None, :, 2:])


def asked(m: Apply, x: torch.Tensor) -> torch.Tensor:
    """Attention whose queries are learned."""
    assert isinstance(m.t, nn.ParameterDict)
    tokens = x.flatten(2).transpose(1, 2)
    return F.scaled_dot_product_attention(m.t["queries"], tokens, tokens)


#: What becomes several nodes: (module, shape).
SEVERAL: dict[str, tuple[nn.Module, Shape]] = {
    "quotient": (Apply(lambda m, x: x / (x.relu() + 1)), (3, 5, 4)),
    "reciprocal": (Apply(lambda m, x: 2 / (x * x + 1)), (3, 5, 4)),
    "reciprocal root": (Apply(lambda m, x: torch.rsqrt(x * x + 1)), (3, 5, 4)),
    "powers": (Apply(lambda m, x: x**3 + (x.abs() + 1) ** 1.5 + (x * x + 1) ** -1), (3, 5, 4)),
    "weighted sum": (
        Apply(lambda m, x: torch.add(x, torch.sub(m.c(x), x, alpha=0.5), alpha=2), c=conv(4, 4, 1)),
        (3, 5, 4),
    ),
    "larger and smaller": (
        Apply(lambda m, x: torch.maximum(x, m.c(x)) - torch.minimum(x, m.c(x)), c=conv(4, 4, 1)), (3, 5, 4)
    ),
    "softsign": (nn.Softsign(), (3, 5, 4)),
    "log sigmoid": (nn.LogSigmoid(), (3, 5, 4)),
    "glu": (nn.GLU(1), (3, 5, 4)),
    "circular padding": (conv(3, 3, 3, padding=1, padding_mode="circular"), (4, 6, 3)),
    "padded with a number": (
        Apply(lambda m, x: m.c(F.pad(F.pad(x, (1, 1)), (1, 1, 0, 2), value=1.5)), c=conv(4, 3, 3)), (3, 5, 4)
    ),
    "padded windows": (
        Apply(lambda m, x: F.pad(x.reshape(-1, 5), (0, 1)).reshape(len(x), 12, 1, 6)), (3, 5, 4)
    ),
    "many constants": (
        Apply(lambda m, x: x + m.t["p"], t=nn.ParameterDict({"p": torch.ones(1, 2, 200, 200)})), (200, 200, 2)
    ),
    "many constants in rows": (
        Apply(
            lambda m, x: (x.flatten(2).transpose(1, 2) + m.t["p"]).transpose(1, 2).reshape(x.shape),
            t=nn.ParameterDict({"p": torch.ones(1, 40000, 2)}),
        ),
        (200, 200, 2),
    ),
    "tokens that are none": (
        Apply(lambda m, x: torch.cat([x[:, :0] * 2, x[:, 0:].tanh(), x[:, 4:].tanh() + 1], 1)),
        (3, 5, 4),
    ),
    "in the type of another": (
        Apply(lambda m, x: (x.tanh() + m.c.weight.type_as(x)).type_as(m.c.weight), c=conv(4, 1, 1)),
        (3, 5, 4),
    ),
    "windows as channels": (Apply(lambda m, x: F.unfold(x, (3, 2), padding=1, stride=(2, 1))), (7, 5, 4)),
    "sums of windows": (
        Apply(lambda m, x: F.fold(F.unfold(x, 3, padding=1, stride=2), x.shape[2:], 3, padding=1, stride=2)),
        (7, 6, 4),
    ),
    "written in place": (Apply(written), (3, 5, 4)),
    "halves in place": (Halves(), (3, 5, 4)),
    "windows that overlap": (Apply(lambda m, x: x.unfold(2, 3, 2).unfold(3, 2, 1).flatten(3)), (7, 5, 4)),
    "sums over indices": (
        Apply(
            lambda m, x: torch.einsum("nchw,oc->nohw", torch.einsum("nchw,nchv->ncwv", x, x), m.c.weight),
            c=nn.Linear(4, 3),
        ),
        (3, 5, 4),
    ),
    "windows as a batch": (
        Apply(
            lambda m, x: m.c(F.max_pool2d(windows(x), 2)).reshape(len(x), -1), c=conv(4, 6, 3, padding=1)
        ),
        (8, 12, 4),
    ),
    "windows of windows": (
        Apply(lambda m, x: F.interpolate(F.avg_pool2d(windows(x), 2), scale_factor=2.0).reshape(x.shape)),
        (8, 12, 4),
    ),
    "a sequence padded": (Apply(lambda m, x: F.pad(x.flatten(2), (0, 1), value=1.0)), (3, 5, 4)),
    "rolled": (Apply(lambda m, x: torch.roll(x, (1, -2), (2, 3))), (3, 5, 4)),
    "flipped": (Apply(lambda m, x: x.flip(3)), (3, 5, 4)),
    "flipped, long": (Apply(lambda m, x: x.flip(3)), (2, 20, 4)),
    "chosen channels": (Apply(lambda m, x: x[:, [2, 0, 1, 3, 3]]), (3, 5, 4)),
    "repeated": (Apply(lambda m, x: x.repeat(1, 2, 1, 3)), (3, 5, 4)),
    "repeated in place": (Apply(lambda m, x: x.repeat_interleave(2, 2)), (3, 5, 4)),
    "of length one": (Apply(lambda m, x: F.normalize(x, dim=1)), (3, 5, 4)),
    "variance": (Apply(lambda m, x: x.var((2, 3), keepdim=True) + x.std(1, keepdim=True)), (3, 5, 4)),
    "rms norm": (Apply(lambda m, x: F.rms_norm(x.permute(0, 2, 3, 1), (4,), eps=1e-3)), (3, 5, 4)),
    "global response": (Apply(normed), (3, 5, 4)),
    "layer norm of rows and columns": (nn.LayerNorm((3, 5)), (3, 5, 4)),
    "layer norm of everything, weighted": (nn.LayerNorm((4, 3, 5)), (3, 5, 4)),
    "group norm of a sequence": (Apply(lambda m, x: m.n(x.flatten(2)), n=nn.GroupNorm(2, 4)), (3, 5, 4)),
    "learned queries": (
        Apply(asked, t=nn.ParameterDict({"queries": torch.ones(1, 3, 4)})), (3, 5, 4)
    ),
    "class token": (
        Apply(
            with_token, t=nn.ParameterDict({"token": torch.ones(1, 1, 4), "places": torch.ones(1, 16, 4)})
        ),
        (3, 5, 4),
    ),
    "a sequence of one": (
        Apply(lambda m, x: m.l(x.mean((2, 3)).unsqueeze(1).relu()), l=nn.Linear(4, 6)), (3, 5, 4)
    ),
    "matrix first": (
        Apply(lambda m, x: m.t["w"] @ x, t=nn.ParameterDict({"w": torch.ones(6, 3)})), (3, 5, 4)
    ),
    "transposed, dilated": (nn.ConvTranspose2d(3, 3, 3, 2, dilation=2), (4, 6, 3)),
    "transposed, depthwise": (nn.ConvTranspose2d(4, 4, 4, 2, 1, groups=4, bias=False), (4, 6, 4)),
    "transposed, beyond its kernel": (nn.ConvTranspose2d(3, 4, 1, stride=3, output_padding=2), (4, 5, 3)),
    "transposed sequence": (
        Apply(lambda m, x: m.c(x.flatten(2)), c=nn.ConvTranspose1d(4, 3, 4, 2, 1)), (3, 5, 4)
    ),
    "kernel of 31": (conv(4, 4, 31, padding=15, groups=4), (6, 5, 4)),
    "patches of 17": (conv(1, 4, 17, stride=17), (17, 40, 1)),
    "pool of everything": (nn.AdaptiveMaxPool2d(1), (17, 19, 2)),
    "pools of sequences": (
        Apply(lambda m, x: F.avg_pool1d(x.flatten(2), 3, 2, 1) - F.max_pool1d(x.flatten(2), 3, 2, 1)),
        (3, 5, 4),
    ),
    "one head of keys": (Apply(one_key_head), (3, 5, 4)),
    "like others": (Apply(lambda m, x: torch.cat([x, torch.ones_like(x[:, :1])], 1)), (3, 5, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", SEVERAL)
def test_several_nodes_agree_with_torch(name: str, agrees_with_torch: Callable[..., Graph]) -> None:
    agrees_with_torch(*SEVERAL[name], wide=True)


@pytest.mark.parametrize("masked", ["causal", "by a mask", "by numbers"])
def test_masked_attention(masked: str) -> None:
    """1e-5 of the largest number is 168 units of rounding; two sums of 15 numbers and a softmax have fewer.
    What is masked counts nothing, however large its own rounding is."""
    seen = torch.rand(15, 15, generator=torch.Generator().manual_seed(1)) + torch.eye(15) > 0.5
    numbers = torch.where(seen, 0.25, -torch.inf)
    ways: dict[str, dict[str, Any]] = {"causal": {"is_causal": True}, "by a mask": {"attn_mask": seen}}
    options = ways.get(masked, {"attn_mask": numbers})
    module = Apply(lambda m, x: attended(m, x, **options))
    x = torch.randn(1, 4, 3, 5, generator=torch.Generator().manual_seed(2))
    graph = capture(module, (3, 5, 4))
    (made,) = reference.run(graph, x.permute(0, 2, 3, 1).numpy()).values()
    wanted = module(x).permute(0, 2, 3, 1).numpy()
    assert np.abs(made - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_torch(name: str, agrees_with_torch: Callable[..., Graph]) -> None:
    module, shape, ops = CASES[name]
    wide = any(op in ops for op in ("layer_norm", "group_norm", "softmax"))
    graph = agrees_with_torch(module, shape, wide=wide)
    assert sorted(node.op for node in graph.nodes) == sorted(ops.split())


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "dilated max pool": (nn.MaxPool2d(2, dilation=2), "dilation must be 1, not 2 x 2"),
    "batch norm without statistics": (
        nn.BatchNorm2d(3, track_running_stats=False),
        "batch normalization needs running statistics",
    ),
    "average pool with a divisor": (
        nn.AvgPool2d((4, 6), divisor_override=3),
        "divisor_override must be None, not 3",
    ),
    "indices": (Apply(lambda m, x: F.max_pool2d(x, 2, return_indices=True)[1] * 1.0), "not number 1"),
    "random dropout": (Apply(lambda m, x: F.dropout(x, 0.5, True)), "it is in training mode"),
    "half": (Apply(lambda m, x: x.half().float()), "only float32 is computed with, not torch.float16"),
    "product of images": (
        Apply(lambda m, x: F.linear(x.mean((2, 3)), x.mean((2, 3)))),
        "its weight is computed from the image",
    ),
    "huge slope": (nn.LeakyReLU(1e9), "slope of leaky_relu must be in -65536 .. 65536, not 1000000000.0"),
    "celu": (nn.CELU(-1.0), "alpha must be positive, not -1"),
    "softplus that jumps": (nn.Softplus(1.0, 5.0), "threshold must be 17 or more, not 5"),
    "negative softplus": (nn.Softplus(-1.0), "beta of softplus must be in"),
    "clamp by the image": (
        Apply(lambda m, x: torch.clamp(x, max=x.mean((2, 3), True))),
        "its max is not a number",
    ),
    "empty clamp": (Apply(lambda m, x: x.clamp(2, 1)), "min 2 is above max 1"),
    "random": (Apply(lambda m, x: x + torch.rand(())), "it is random"),
    "cumulative sum": (Apply(lambda m, x: x.cumsum(1)), "aten.cumsum"),
    "adaptive max pool": (nn.AdaptiveMaxPool2d(4), "its output size 4 x 4 must divide the map"),
    "average pool that counts what lies beyond": (
        nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        "with ceil_mode it must not count padding",
    ),
    "enlarged by a fraction": (
        nn.Upsample(scale_factor=1.3, mode="bilinear"),
        "its scale factor 1.3 makes no whole number",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_with_a_reason(name: str) -> None:
    module, reason = REFUSED[name]
    with pytest.raises(UnsupportedOperatorError) as error:
        capture(module, (4, 6, 3))
    message = str(error.value)
    assert reason in message
    assert "\n" not in message
    assert "more, which" not in message  # nothing behind it is blamed


def test_the_message_names_operator_module_and_reason() -> None:
    class Erf(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.erf()

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = Erf()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.act(x)

    model = nn.Sequential()
    model.add_module("stem", nn.ReLU())
    model.add_module("head", Head())
    with pytest.raises(UnsupportedOperatorError) as error:
        capture(model, (4, 4, 3))
    assert str(error.value) == (
        "operator aten.erf.default in module 'head.act' (Erf) is not supported: "
        "the engine has no such operation; build it from others, or leave it out"
    )
