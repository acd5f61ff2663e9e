"""What the torch executor's operations have in common: the step they are given, their row, codes, sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from subbyte.execute.torch.estimators import STE, Estimator
from subbyte.execute.torch.straight_through import (
    look_up,
    real,
    round_clamp,
    round_even,
    sampled,
    traced,
)
from subbyte.ir import Graph, Node, Value

EXACT_FLOAT32 = float(1 << 24)


@dataclass(frozen=True)
class Grid:
    """An activation grid whose scale may be trained: real = scale * (code - zero).

    levels: float32 [2**bits], ascending, which may be trained too, where only these codes occur.
    """

    scale: Tensor
    zero: float
    qmax: float
    levels: Tensor | None = None

    @property
    def ends(self) -> tuple[float | Tensor, float | Tensor]:
        """The smallest and the largest code, without gradient."""
        if self.levels is None:
            return 0.0, self.qmax
        return self.levels[0].detach(), self.levels[-1].detach()


@dataclass(frozen=True)
class Step:
    """What an op needs to know besides its inputs.

    bfloat16, estimator: of training, see `forward`.
    """

    node: Node
    inputs: list[Value]
    output: Value
    state: Mapping[str, Tensor]
    bfloat16: bool = False
    estimator: Estimator = STE

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

    @property
    def unrounded(self) -> Tensor | None:
        """Where training leaves the output between codes, bool of its shape; None: nowhere."""
        return self.state.get(f"{self.output.name}:unrounded")

    @property
    def zero(self) -> Tensor | None:
        """The zero point of the output, 0-dim, where it is learned."""
        return self.state.get(f"{self.output.name}:zero")

    def _grid(self, value: Value) -> Grid:
        q = value.grid
        scale, levels = self.state[f"{value.name}:scale"], self.state.get(f"{value.name}:levels")
        return Grid(scale, float(q.zero_point), float(q.qmax), levels)


def step_of(
    graph: Graph,
    node: Node,
    state: Mapping[str, Tensor],
    *,
    bfloat16: bool = False,
    estimator: Estimator = STE,
) -> Step:
    """What the node's operation is given besides its inputs."""
    inputs = [graph.value(name) for name in node.inputs]
    return Step(node, inputs, graph.value(node.output), state, bfloat16, estimator)


Op = Callable[[Step, list[Tensor]], Tensor]


@dataclass(frozen=True)
class Row:
    """An operation. Both functions take NCHW inputs, codes as exact float32 numbers, and make one.

    run: the reference's integers. training: in fewer passes over memory, on codes, where float32
    rounding may differ; None: `run`.
    """

    run: Op
    training: Op | None = None


def store(
    v: Tensor, grid: Grid, low: float = 0.0, high: Tensor | None = None, unrounded: Tensor | None = None
) -> Tensor:
    """clamp(rne(v) + z, low, high), not rounded where `unrounded`. Overwrites `v` when nothing records
    gradients."""
    if high is not None and traced(v, high):
        return torch.minimum(round_clamp(v, grid.zero, low, grid.qmax, unrounded), high)
    return round_clamp(v, grid.zero, low, grid.qmax if high is None else high, unrounded)


def bounds(act: str, y: Grid) -> tuple[float, Tensor | None]:
    """quant.clamp_bounds on tensors: relu6's upper bound, a code, follows the scale."""
    if act != "relu6":
        return (y.zero if act == "relu" else 0.0), None
    return y.zero, (round_even(6.0 / y.scale) + y.zero).clamp(max=y.qmax)


def from_table(step: Step, codes: Tensor, source: Grid) -> Tensor:
    """T[codes], with the gradient of clamp(f(s (codes - z)) / s_y + z_y), and of the table's entries."""
    y, table, act = step.target, step.param("table"), step.node.attrs["act"]
    if traced(codes, source.scale, y.scale, table):
        result = sampled(codes, source.scale, y.scale, table, slopes(act, source, y))
    else:
        result = look_up(table, codes)
    if step.unrounded is None:
        return result
    with torch.no_grad():
        code = torch.arange(256.0, device=table.device)
        low, high = y.ends
        smooth = real(act)((code - source.zero) * source.scale) / y.scale + y.zero
        lost = look_up(smooth.clamp(low, high) - table, codes)  # type: ignore[arg-type]
    return result + lost * step.unrounded


def slopes(act: str, source: Grid, y: Grid) -> tuple[Tensor, ...]:
    """Derivatives of clamp(f(s (c - z)) / s_y + z_y) at c = 0 .. 255 by c, s and s_y.

    The clamp is to the codes of y, or to its outer levels: between levels the function is followed as it is
    between codes, straight through.
    """
    code = torch.arange(256.0, device=source.scale.device, requires_grad=True)
    s, s_y = (grid.scale.detach().expand(256).clone().requires_grad_() for grid in (source, y))
    with torch.enable_grad():
        exact = real(act)((code - source.zero) * s)
        low, high = y.ends
        clamped = (exact / s_y + y.zero).clamp(low, high)  # type: ignore[arg-type]
        return torch.autograd.grad(clamped.sum(), (code, s, s_y))


def per_channel(v: Tensor, like: Tensor) -> Tensor:
    """[C] so that it broadcasts over `like`, [N, C, H, W] or [N, C]."""
    return v.view(1, -1, 1, 1) if like.ndim == 4 else v


def products(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Σ x·w (+ bias [O]) in the dtype of its arguments: conv2d [N, C, H, W] or linear [N, C]."""
    if weight.ndim == 2:
        return F.linear(x, weight, bias)
    x, stride, padding, groups = window(node, x)
    return F.conv2d(x, weight, bias, stride, padding, dilation_of(node), groups)


def dilation_of(node: Node) -> list[int]:
    """Rows and columns from one tap of a conv2d to the next."""
    return list(node.attrs.get("dilation", (1, 1)))


def window(node: Node, x: Tensor) -> tuple[Tensor, list[int], list[int], int]:
    """A conv2d's arguments for torch: its input, padded where sides differ, stride, padding, groups."""
    top, bottom, left, right = node.attrs["pad"]
    padding = [top, left]
    if top != bottom or left != right:
        x, padding = F.pad(x, (left, right, top, bottom)), [0, 0]
    return x, list(node.attrs["stride"]), padding, node.attrs["groups"]


def largest_sums(weight: Tensor, low: float, high: float) -> Tensor:
    """[O]: a bound on |any partial sum of x·w|, in any order, for x in low .. high (low <= 0 <= high)."""
    w = weight.detach().flatten(1)
    positive, negative = w.clamp(min=0).sum(1), -w.clamp(max=0).sum(1)
    return torch.maximum(positive * high - negative * low, negative * high - positive * low)


def accumulate(step: Step, x: Tensor) -> Tensor:
    """Σ (x − z)·w + B, rounded once to float32: fl(acc).

    Only a CPU's float32 convolutions are known to round nothing below 2**24; elsewhere float64 is taken.
    """
    weight, bias, grid = step.param("weight"), step.param("bias"), step.grid(0)
    centred = x - grid.zero
    bound = largest_sums(weight, -grid.zero, grid.qmax - grid.zero)
    if _small(bound):
        acc = products(step.node, centred, weight)
    else:
        acc = products(step.node, centred.double(), weight.double())
    if _small(bound + bias.detach().abs()):
        return acc + per_channel(bias.to(acc.dtype), acc)
    return (acc.double() + per_channel(bias.double(), acc)).float()


def _small(bound: Tensor) -> bool:
    return bound.device.type == "cpu" and float(bound.max()) < EXACT_FLOAT32
