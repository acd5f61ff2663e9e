"""Every row of the operator table against torch, within the float32 bound of the numerics page."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from subbyte.errors import UnsupportedOperatorError
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
    "two outputs": (
        Apply(lambda m, x: (m.c(x), x.mean((2, 3)))[::-1], c=conv(4, 3, 1)),
        (3, 5, 4), "conv2d global_avg_pool flatten",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_torch(name: str, agrees_with_torch: Callable[[nn.Module, Shape], Graph]) -> None:
    module, shape, ops = CASES[name]
    graph = agrees_with_torch(module, shape)
    assert sorted(node.op for node in graph.nodes) == sorted(ops.split())


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "softmax": (nn.Softmax(1), "aten.softmax.int"),
    "dilation": (conv(3, 3, 2, dilation=(2, 1)), "dilation must be 1, not 2 x 1"),
    "dilated max pool": (nn.MaxPool2d(2, dilation=2), "dilation must be 1, not 2 x 2"),
    "transposed": (nn.ConvTranspose2d(3, 3, 3), "maps cannot be enlarged"),
    "upsampled": (nn.Upsample(scale_factor=2, mode="bilinear"), "maps cannot be enlarged"),
    "group norm": (nn.GroupNorm(1, 3), "the only normalization is batch normalization"),
    "layer norm": (nn.LayerNorm((3, 4, 6)), "the only normalization is batch normalization"),
    "batch norm without statistics": (
        nn.BatchNorm2d(3, track_running_stats=False),
        "batch normalization needs running statistics",
    ),
    "average pool": (nn.AvgPool2d(3, 2), "its window must be the whole map, 4 x 6, not 3 x 3"),
    "padded average pool": (nn.AvgPool2d((4, 6), padding=(2, 0)), "padding must be 0, not 2 x 0"),
    "average pool with a divisor": (
        nn.AvgPool2d((4, 6), divisor_override=3),
        "divisor_override must be None, not 3",
    ),
    "adaptive pool": (nn.AdaptiveAvgPool2d((2, 3)), "the output size must be 1 x 1, not 2 x 3"),
    "adaptive max pool": (nn.AdaptiveMaxPool2d(2), "the output size must be 1 x 1, not 2 x 2"),
    "indices": (Apply(lambda m, x: F.max_pool2d(x, 2, return_indices=True)[1] * 1.0), "not number 1"),
    "padding mode": (
        conv(3, 3, 3, padding=1, padding_mode="circular"),
        "padding must be constant, not 'circular'",
    ),
    "random dropout": (Apply(lambda m, x: F.dropout(x, 0.5, True)), "it is in training mode"),
    "half": (Apply(lambda m, x: x.half().float()), "only float32 is computed with, not torch.float16"),
    "linear on maps": (nn.Linear(6, 2), "it needs one vector per image, not [1, 3, 4, 6]"),
    "custom scale": (Apply(lambda m, x: x * x.relu()), "only a map times one gate per channel"),
    "quotient": (Apply(lambda m, x: x / (x.relu() + 1)), "its second operand must be a constant"),
    "sum of weights": (Apply(lambda m, x: torch.add(x, x, alpha=2)), "alpha must be 1"),
    "broadcast": (
        Apply(lambda m, x: x.mean((2, 3), True).expand_as(x).relu()),
        "only a channel gate (mul) may be broadcast",
    ),
    "product of images": (
        Apply(lambda m, x: F.linear(x.mean((2, 3)), x.mean((2, 3)))),
        "its weight is computed from the image",
    ),
    "several slopes": (
        Apply(lambda m, x: F.prelu(x, torch.tensor([0.1, 0.2, 0.2]))),
        "its channels have 2 different slopes",
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
    "broadcast add": (Apply(lambda m, x: x + x.mean((2, 3), True)), "operands must have equal shapes"),
    "mean of one axis": (
        Apply(lambda m, x: x.mean(2)),
        "only over height and width, not over dimensions [2]",
    ),
    "mean of everything": (Apply(lambda m, x: x.mean()), "not over dimensions [0, 1, 2, 3]"),
    "maximum of rows": (
        Apply(lambda m, x: x.amax(-1)),
        "only over height and width, not over dimensions [3]",
    ),
    "pad without window": (
        Apply(lambda m, x: F.relu(F.pad(x, (1, 1)))),
        "only convolution and max pooling take padding over",
    ),
    "reflection": (
        nn.Sequential(nn.ReflectionPad2d(1), conv(3, 3, 3)),
        "padding must be constant, not 'reflect'",
    ),
    "nonzero pad": (
        Apply(lambda m, x: m.c(F.pad(x, (1, 1), value=1.5)), c=conv(3, 3, 3)),
        "a convolution takes padding with zeros over, not with 1.5",
    ),
    "zero pad before max pool": (
        Apply(lambda m, x: F.max_pool2d(F.pad(x, (1, 1)), 3)),
        "max pooling takes padding with -inf over, not with 0",
    ),
    "two pads": (
        Apply(lambda m, x: m.c(F.pad(F.pad(x, (1, 1)), (1, 1), value=1.0)), c=conv(3, 3, 3)),
        "with another value",
    ),
    "crop": (
        Apply(lambda m, x: m.c(F.pad(x, (-1, 0))), c=conv(3, 3, 3)),
        "padding must add to height and width, not be [-1, 0]",
    ),
    "pad larger than kernel": (
        conv(3, 3, 1, padding=1),
        "is not supported: pad must be smaller than the kernel",
    ),
    "concat of rows": (
        Apply(lambda m, x: torch.cat([x, x], 2)),
        "only along the channels, not along dimension 2",
    ),
    "flattened map as output": (nn.Sequential(nn.ReLU(), nn.Flatten()), "only a linear layer may"),
    "transpose": (Apply(lambda m, x: m.c(x.transpose(2, 3)), c=conv(3, 3, 3)), "aten.transpose.int"),
    "wrong reshape": (
        Apply(lambda m, x: m.c(x.reshape(1, 3, 6, 4)), c=conv(3, 3, 3)),
        "may not be reshaped to [1, 3, 6, 4]",
    ),
    "spatial gate": (Apply(lambda m, x: x * m.c(x).sigmoid(), c=conv(3, 1, 1)), "one gate per channel"),
    "random": (Apply(lambda m, x: x + torch.rand(())), "it is random"),
    "split": (Apply(lambda m, x: m.c(x.split(1, 1)[2]), c=conv(1, 1, 1)), "aten.split"),
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
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.GroupNorm(1, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(x)

    model = nn.Sequential()
    model.add_module("stem", nn.ReLU())
    model.add_module("head", Head())
    with pytest.raises(UnsupportedOperatorError) as error:
        capture(model, (4, 4, 3))
    assert str(error.value) == (
        "operator aten.group_norm.default in module 'head.norm' (GroupNorm) is not supported: "
        "the only normalization is batch normalization"
    )
