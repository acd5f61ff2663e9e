"""The ops of the torch executor, one function each, in the order of docs/spec/numerics.md.

Every function takes a Step (the node, its values' grids, the tensors) and NCHW inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from subbyte.execute.torch.straight_through import (
    floor,
    look_up,
    real,
    round_clamp,
    round_even,
    sampled,
    traced,
)
from subbyte.ir import Node, Value

EXACT_FLOAT32 = float(1 << 24)


@dataclass(frozen=True)
class Grid:
    """An activation grid whose scale may be trained: real = scale * (code - zero)."""

    scale: Tensor
    zero: float
    qmax: float


@dataclass(frozen=True)
class Step:
    """What an op needs to know besides its inputs."""

    node: Node
    inputs: list[Value]
    output: Value
    state: Mapping[str, Tensor]

    @property
    def quantized(self) -> bool:
        """Whether its input holds codes."""
        return self.inputs[0].q is not None

    def param(self, role: str) -> Tensor:
        """A parameter as a tensor, as torch lays it out."""
        return self.state[f"{self.node.name}:{role}"]

    def grid(self, index: int) -> Grid:
        """The grid of input `index`."""
        return self._grid(self.inputs[index])

    @property
    def target(self) -> Grid:
        """The grid of the output."""
        return self._grid(self.output)

    @property
    def pre(self) -> Grid:
        """The 8-bit pre-activation grid."""
        return Grid(self.param("pre_scale"), float(self.node.attrs["pre_zero"]), 255.0)

    def _grid(self, value: Value) -> Grid:
        assert value.q is not None
        return Grid(self.state[f"{value.name}:scale"], float(value.q.zero_point), float(value.q.qmax))


def _store(v: Tensor, grid: Grid, low: float = 0.0, high: Tensor | None = None) -> Tensor:
    """clamp(rne(v) + z, low, high). Overwrites `v` when nothing records gradients."""
    if high is not None and traced(v, high):
        return torch.minimum(round_clamp(v, grid.zero, low, grid.qmax), high)
    return round_clamp(v, grid.zero, low, grid.qmax if high is None else float(high))


def bounds(act: str, y: Grid) -> tuple[float, Tensor | None]:
    """quant.clamp_bounds on tensors: relu6's upper bound, a code, follows the scale."""
    if act != "relu6":
        return (y.zero if act == "relu" else 0.0), None
    return y.zero, (round_even(6.0 / y.scale) + y.zero).clamp(max=y.qmax)


def _times(v: Tensor, factor: Tensor) -> Tensor:
    """v * factor; overwrites `v` when nothing records gradients."""
    return v * factor if traced(v, factor) else v.mul_(factor)


def _table(step: Step, codes: Tensor, source: Grid) -> Tensor:
    """T[codes], with the gradient of clamp(f(s (codes - z)) / s_y + z_y)."""
    y, table = step.target, step.param("table")
    if not traced(codes, source.scale, y.scale):
        return look_up(table, codes)
    return sampled(codes, source.scale, y.scale, table, slopes(step.node.attrs["act"], source, y))


def slopes(act: str, source: Grid, y: Grid) -> tuple[Tensor, ...]:
    """Derivatives of clamp(f(s (c - z)) / s_y + z_y) at c = 0 .. 255 by c, s and s_y."""
    code = torch.arange(256.0, requires_grad=True)
    s, s_y = (grid.scale.detach().expand(256).clone().requires_grad_() for grid in (source, y))
    with torch.enable_grad():
        exact = real(act)((code - source.zero) * s)
        clamped = (exact / s_y + y.zero).clamp(0.0, y.qmax)
        return torch.autograd.grad(clamped.sum(), (code, s, s_y))


def per_channel(v: Tensor, like: Tensor) -> Tensor:
    """[C] so that it broadcasts over `like`, [N, C, H, W] or [N, C]."""
    return v.view(1, -1, 1, 1) if like.ndim == 4 else v


def products(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Σ x·w (+ bias [O]) in the dtype of its arguments: conv2d [N, C, H, W] or linear [N, C]."""
    if node.op == "linear":
        return F.linear(x, weight, bias)
    top, bottom, left, right = node.attrs["pad"]
    padding = (top, left)
    if top != bottom or left != right:
        x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
    return F.conv2d(x, weight, bias, tuple(node.attrs["stride"]), padding, 1, node.attrs["groups"])


def largest_sums(weight: Tensor, low: float, high: float) -> Tensor:
    """[O]: a bound on |any partial sum of x·w|, in any order, for x in low .. high (low <= 0 <= high)."""
    w = weight.detach().flatten(1)
    positive, negative = w.clamp(min=0).sum(1), -w.clamp(max=0).sum(1)
    return torch.maximum(positive * high - negative * low, negative * high - positive * low)


def accumulate(step: Step, x: Tensor) -> Tensor:
    """Σ (x − z)·w + B, rounded once to float32: fl(acc)."""
    weight, bias, grid = step.param("weight"), step.param("bias"), step.grid(0)
    centred = x - grid.zero
    bound = largest_sums(weight, -grid.zero, grid.qmax - grid.zero)
    if float(bound.max()) < EXACT_FLOAT32:
        acc = products(step.node, centred, weight)
    else:
        acc = products(step.node, centred.double(), weight.double())
    if float((bound + bias.detach().abs()).max()) < EXACT_FLOAT32:
        return acc + per_channel(bias.to(acc.dtype), acc)
    return (acc.double() + per_channel(bias.double(), acc)).float()


def _conv(step: Step, arrays: list[Tensor]) -> Tensor:
    if not step.quantized:
        return _float_conv(step, arrays)
    acc = accumulate(step, arrays[0]).float()
    multiplier = step.grid(0).scale * step.param("weight_scale")
    if step.output.q is None:
        return _times(acc, per_channel(multiplier, acc))
    table = "table" in step.node.params
    target = step.pre if table else step.target
    v = _times(acc, per_channel(multiplier / target.scale, acc))
    if table:
        return _table(step, _store(v, target), target)
    if len(arrays) == 2:
        r = step.grid(1)
        v = v + (arrays[1] - r.zero) * (r.scale / target.scale)
    return _store(v, target, *bounds(step.node.attrs["act"], target))


def _float_conv(step: Step, arrays: list[Tensor]) -> Tensor:
    sums = products(step.node, arrays[0], step.param("weight"))
    result = real(step.node.attrs["act"])(sums + per_channel(step.param("bias"), sums))
    return result + arrays[1] if len(arrays) == 2 else result


def _quantize(step: Step, arrays: list[Tensor]) -> Tensor:
    y = step.target
    scaled = (arrays[0] * (1.0 / y.scale)).clamp(-y.zero, y.qmax - y.zero)
    return round_even(scaled) + y.zero


def _dequantize(step: Step, arrays: list[Tensor]) -> Tensor:
    return (arrays[0] - step.grid(0).zero) * step.grid(0).scale


def _batch_norm(step: Step, arrays: list[Tensor]) -> Tensor:
    mean, var = step.param("mean").double(), step.param("var").double()
    scale = step.param("weight").double() / torch.sqrt(var + step.node.attrs["eps"])
    centred = arrays[0].double() - per_channel(mean, arrays[0])
    result = centred * per_channel(scale, centred) + per_channel(step.param("bias").double(), centred)
    return result.float()


def _activation(step: Step, arrays: list[Tensor]) -> Tensor:
    if step.quantized:
        return _table(step, arrays[0], step.grid(0))
    return real(step.node.attrs["act"])(arrays[0])


def _add(step: Step, arrays: list[Tensor]) -> Tensor:
    if not step.quantized:
        return arrays[0] + arrays[1]
    y = step.target
    left, right = (
        (array - grid.zero) * (grid.scale / y.scale)
        for array, grid in zip(arrays, (step.grid(0), step.grid(1)), strict=True)
    )
    return _store(left + right, y)


def _mul(step: Step, arrays: list[Tensor]) -> Tensor:
    if not step.quantized:
        return arrays[0] * arrays[1]
    x, gate, y = step.grid(0), step.grid(1), step.target
    multiplier = x.scale * gate.scale / y.scale * 256.0
    factors = round_even((arrays[1] - gate.zero) * multiplier).clamp(-32768.0, 32767.0)
    # (a·128·G + 2^14) >> 15 = floor((a·G + 128) / 256), all below 2^24
    product = ((arrays[0] - x.zero) * factors + 128.0) * 0.00390625
    return (floor(product) + y.zero).clamp(0.0, y.qmax)


def _global_avg_pool(step: Step, arrays: list[Tensor]) -> Tensor:
    if not step.quantized:
        return arrays[0].double().mean((2, 3), keepdim=True).float()
    x, y = step.grid(0), step.target
    positions = arrays[0].shape[2] * arrays[0].shape[3]
    wide = torch.float32 if positions * x.qmax < EXACT_FLOAT32 else torch.float64
    total = (arrays[0] - x.zero).to(wide).sum((2, 3), keepdim=True).float()
    return _store(total * (x.scale / y.scale / float(positions)), y)


def _max_pool2d(step: Step, arrays: list[Tensor]) -> Tensor:
    top, bottom, left, right = step.node.attrs["pad"]
    lowest = 0.0 if step.quantized else -float("inf")
    padded = F.pad(arrays[0], (left, right, top, bottom), value=lowest)
    return F.max_pool2d(padded, tuple(step.node.attrs["kernel"]), tuple(step.node.attrs["stride"]))


def _concat(step: Step, arrays: list[Tensor]) -> Tensor:
    return torch.cat(arrays, 1)


def _flatten(step: Step, arrays: list[Tensor]) -> Tensor:
    x = arrays[0]
    return (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).flatten(1)


OPS: dict[str, Callable[[Step, list[Tensor]], Tensor]] = {
    "quantize": _quantize,
    "dequantize": _dequantize,
    "conv2d": _conv,
    "linear": _conv,
    "batch_norm": _batch_norm,
    "activation": _activation,
    "add": _add,
    "mul": _mul,
    "global_avg_pool": _global_avg_pool,
    "max_pool2d": _max_pool2d,
    "concat": _concat,
    "flatten": _flatten,
}
