"""Networks of other families than EfficientNet, small: captured, compressed, and equal in all executors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from subbyte.compress import compress
from subbyte.execute import reference
from subbyte.execute.native import Session
from subbyte.execute.torch import executor as torch_executor
from subbyte.importers.torch_export import capture
from subbyte.passes import optimize
from subbyte.recipes import load_recipe
from tests.contract.agreement import assert_engine_equals, random_images

SHAPE = (12, 8, 3)


class ChannelsLast(nn.Module):
    """A block of ConvNeXt (arXiv 2201.03545)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.up, self.down = nn.Linear(channels, 2 * channels), nn.Linear(2 * channels, channels)
        self.gamma = nn.Parameter(torch.rand(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.gamma * self.down(F.gelu(self.up(y)))
        return x + y.permute(0, 3, 1, 2)


class Attention(nn.Module):
    """Self-attention of all positions, with two heads."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(channels), nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(tokens)).reshape(n, h * w, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h * w, c)
        return (tokens + self.project(y)).transpose(1, 2).reshape(n, c, h, w)


class Shuffled(nn.Module):
    """Half of the channels pass a dilated convolution, then all are shuffled (arXiv 1807.11164)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.act = nn.PReLU(channels // 2, init=0.1)
        with torch.no_grad():
            self.act.weight.add_(0.3 * torch.rand(channels // 2))
        self.conv = nn.Conv2d(channels // 2, channels // 2, 3, padding=2, dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        left, right = x.chunk(2, 1)
        joined = torch.cat([left, self.act(self.conv(right))], 1)
        return joined.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Enlarged(nn.Module):
    """A decoder: pooled, enlarged in four ways, combined by products and differences."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, channels, 4, 2, 1)
        self.more, self.shuffle = nn.Conv2d(channels, 4 * channels, 1), nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        small = F.avg_pool2d(x, 3, 2, 1)
        size = x.shape[2:]
        near = F.interpolate(small, size=size)
        smooth = F.interpolate(small, size=size, mode="bilinear", align_corners=True)
        return near * self.up(small) + smooth - self.shuffle(self.more(small))


class Response(nn.Module):
    """Global response normalization (arXiv 2301.00808)."""

    def forward(self, x: Tensor) -> Tensor:
        size = x.norm(p=2, dim=(2, 3), keepdim=True)
        return x + x * (size / (size.mean(1, keepdim=True) + 1e-6))


class Linear(nn.Module):
    """Linear attention (arXiv 2006.16236), whose weights are ReLUs over their sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv, self.project = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).flatten(2).chunk(3, 1)
        q, k, v = q.relu().transpose(1, 2), k.relu(), F.pad(v.transpose(1, 2), (0, 1), value=1.0)
        y = q @ (k @ v)
        y = y[..., :-1] / (y[..., -1:] + 1e-3)
        return x + self.project(y.transpose(1, 2).reshape(x.shape))


class Windows(nn.Module):
    """Shifted windows (arXiv 2103.14030): rolled, normalized, attended within 4 x 4, rolled back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(channels), nn.Linear(channels, 3 * channels)
        self.bias = nn.Parameter(torch.rand(1, 16, 16))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = torch.roll(self.norm(x.permute(0, 2, 3, 1)), (-2, -2), (1, 2))
        y = y.view(n, h // 4, 4, w // 4, 4, c).transpose(2, 3).reshape(-1, 16, c)
        q, k, v = self.qkv(y).chunk(3, -1)
        y = (q @ k.transpose(1, 2) * c**-0.5 + self.bias).softmax(-1) @ v
        y = y.view(n, h // 4, w // 4, 4, 4, c).transpose(2, 3).reshape(n, h, w, c)
        return x + torch.roll(y, (2, 2), (1, 2)).permute(0, 3, 1, 2)


class Scales(nn.Module):
    """Parts of the channels one behind the other (arXiv 1904.01169), a gate over channels (arXiv 1910.03151),
    and depthwise enlarging."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        each = channels // 4
        self.convs = nn.ModuleList(nn.Conv2d(each, each, 3, padding=1) for _ in range(3))
        self.gate = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.up = nn.ConvTranspose2d(channels, channels, 4, 2, 1, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        first, *parts = x.chunk(4, 1)
        done = [first]
        for conv, part in zip(self.convs, parts, strict=True):
            done.append(F.leaky_relu(conv(part + done[-1])))
        y = torch.cat(done, 1)
        y = y * self.gate(y.mean((2, 3)).unsqueeze(1)).sigmoid().view(len(x), -1, 1, 1)
        return x + self.up(F.max_pool2d(y, 2))


BLOCKS: dict[str, tuple[Callable[[int], nn.Module], set[str]]] = {
    "channels last": (ChannelsLast, {"layer_norm"}),
    "attention": (Attention, {"layer_norm", "softmax", "matmul"}),
    "shuffled": (Shuffled, set()),
    "enlarged": (Enlarged, set()),
    "response norm": (lambda channels: Response(), {"sqrt", "divide"}),
    "linear attention": (Linear, {"matmul", "divide"}),
    "shifted windows": (Windows, {"layer_norm", "softmax", "matmul"}),
    "scales": (Scales, set()),
    "group norm": (lambda channels: nn.Sequential(nn.GroupNorm(2, channels), nn.ReLU()), {"group_norm"}),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_all_executors_give_equal_numbers(name: str) -> None:
    block, real = BLOCKS[name]
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), block(8), nn.Conv2d(8, 4, 1)).eval()
    graph = optimize(capture(module, SHAPE))
    calibration, images = random_images(graph, 16, 1), random_images(graph, 3, 2)
    result = compress(graph, load_recipe("w8a8"), [calibration])
    computing = {
        node.op for node in result.nodes if all(result.value(value).q is None for value in node.inputs)
    }
    assert computing - {"quantize", "rearrange", "slice"} == real
    expected = reference.run(result, images)[result.outputs[0]]
    with torch.no_grad():
        exact = module(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy().transpose(0, 2, 3, 1)
    assert np.corrcoef(expected.ravel(), exact.ravel())[0, 1] > 0.99
    assert np.array_equal(torch_executor.run(result, images)[result.outputs[0]], expected)
    assert_engine_equals(result, images)
    converted = [row["op"] for row in Session(result).plan()].count("quantize")
    assert (converted > 1) == bool(real)  # the image is always
