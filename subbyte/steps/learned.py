"""A quantized graph whose weights, scales and biases are trained through the torch executor.

Weights are latent real numbers that are rounded in every forward pass, straight through (arXiv
1308.3432); scales of weights and of narrow activations follow their gradient, learned step sizes
(LSQ, arXiv 1902.08153). Levels of activations (QParams.levels) are a code book: each follows the sum of the
gradients of what it made, while the function that the table samples passes its own slope on. (LCQ, arXiv
2103.07156, learns such a book through a companding function; here its entries are free.) Latent weights are
held relative to their layer's root mean square and scales as logarithms, so that one learning rate fits all
layers. Instead of latent weights, roundings down or up can be learned (adaround.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from subbyte.execute.reference import activation_function
from subbyte.execute.torch import executor as torch_executor
from subbyte.execute.torch.straight_through import real, round_even, substitute
from subbyte.ir import OPS, Graph, Node, Value, is_weighted
from subbyte.ir.graph import pre_activation, producers
from subbyte.ir.shares import sharing
from subbyte.quant import QParams, QTensor, activation_table
from subbyte.quant.bias import LARGEST_TRAINED
from subbyte.quantize.weights import codes_of, usable
from subbyte.recipes import Distillation
from subbyte.steps.adaround import Between, undecided
from subbyte.steps.rounding import Rounding
from subbyte.steps.train import read_state, set_parameters, write_state

#: What is learned where nothing more is asked.
PLAIN = Distillation(epochs=1.0)
#: A bias moves by this share of its layer's whole output range per unit of its parameter.
BIAS_UNIT = 1.0 / 16.0
#: Levels move by so many codes, a sixteenth of a byte's, per unit of their parameter.
LEVEL_UNIT = 16.0


class Learned:
    """The trainable form of `graph`, on `device`; `original` holds the same layers before rounding.

    parameters: name to tensor, by kind: "weight" (in the unit of recipes.Distillation.weight_unit, or the
    arguments of AdaRound's sigmoids), "scale" (logarithm of a factor on a weight scale), "bias" (in BIAS_UNIT
    of the output range), "grid" (logarithm of a factor on an activation scale, for activations below 8 bits
    that a layer in `graph` makes; if grids are "all", for all it makes, and as `node:pre_scale` for the grids
    in front of tables; where a narrow value has levels, `value:levels` also holds what they moved by,
    [2**bits] in LEVEL_UNIT codes: they stay different bytes in ascending order, and the zero point stays
    where it is), "offset" (codes that zero points move by, of what layers make, if asked).
    rounding, grids: see recipes.Reconstruction; asked: what else is learned, and how. present: `graph` on the
    activation grids of the moment.
    """

    def __init__(
        self,
        graph: Graph,
        original: Mapping[str, Node],
        device: torch_executor.Device = "cpu",
        *,
        asked: Distillation = PLAIN,
        rounding: Literal["latent", "adaround"] = "latent",
        grids: Literal["narrow", "all"] = "narrow",
    ) -> None:
        self.graph, self.asked, self.present = graph, asked, graph
        self.device = device
        self.rounding = Rounding(asked)
        self.fixed = torch_executor.state_of(graph, device)
        self.parameters: dict[str, dict[str, Tensor]] = {"weight": {}, "scale": {}, "bias": {}, "grid": {}}
        self.group_of: dict[str, str] = {}
        self.offset_of: dict[str, str] = {}
        self.finer: dict[str, int] = {}  # parts that each step of a value's grid is divided into at present
        self.unit: dict[str, float] = {}
        self.between: dict[str, Between] = {}  # of "adaround"
        self.kept: dict[str, Tensor] = {}  # 0 for weights that a pattern leaves out, else 1
        for node in self._quantized():
            weight = node.params["weight"]
            assert isinstance(weight, QTensor)
            real = torch_executor.weight_tensor(self._original(node, original))
            steps = real / _rows(torch.from_numpy(weight.scale), real)
            levels = usable(weight.levels)
            if asked.weight_unit == "step" and node.name not in self.kept:
                unit = _mean_step(levels)
            else:
                unit = float(steps.square().mean().sqrt()) + 1e-12
            self.unit[node.name] = unit
            low, high = _cells(torch_executor.weight_tensor(weight.values()), levels, asked.inside)
            inside = torch.clamp(steps, low, high)
            if rounding == "adaround":
                self.between[node.name] = Between(inside.to(device), levels)
                self.parameters["weight"][node.name] = self.between[node.name].start
            else:
                self.parameters["weight"][node.name] = (inside / unit).contiguous().to(device)
            for kind in ("scale", "bias"):
                self.parameters[kind][node.name] = torch.zeros(len(weight.scale), device=device)
        self._find_grids(everything="all" in (grids, asked.grids))
        if asked.offset:
            self._find_offsets()
        self.rounding.watch(self.parameters["weight"])
        for named in self.parameters.values():
            for parameter in named.values():
                parameter.requires_grad_()
        if asked.gradient_scale:
            self._scale_gradients()

    def _quantized(self) -> Iterator[Node]:
        return (node for node in self.graph.nodes if isinstance(node.params.get("weight"), QTensor))

    def weights(self) -> dict[str, QTensor]:
        """Of the quantized layers, as they were in the beginning."""
        return {node.name: w for node in self._quantized() if isinstance(w := node.params["weight"], QTensor)}

    def _original(self, node: Node, original: Mapping[str, Node]) -> np.ndarray:
        """Float weights of a layer before rounding, float32, 0 where its pattern leaves them out; which these
        are is decided here for the whole of training, and held in `kept`."""
        weight, real = node.params["weight"], np.asarray(original[node.name].params["weight"])
        assert isinstance(weight, QTensor)
        if (mask := weight.format.pattern.mask) is None:
            return real
        # first what rounding left, then what was largest before: rounding may have made zeros of it
        order = np.abs(real, dtype=np.float64) / max(float(np.abs(real).max()), 1e-30)
        kept = mask(np.where(weight.values() != 0, real.size + 1.0, order))
        self.kept[node.name] = torch_executor.weight_tensor(np.float32(kept)).to(self.device)
        return np.where(kept, real, np.float32(0.0))

    def _find_grids(self, *, everything: bool) -> None:
        made = producers(self.graph)
        for members in sharing(self.graph):
            q = self.graph.value(members[0]).q
            free = q is not None and (q.bits < 8 or everything) and all(name in made for name in members)
            if free:
                self.parameters["grid"][members[0]] = self.fixed[f"{members[0]}:scale"].new_zeros(())
                self.group_of.update(dict.fromkeys(members, members[0]))
                if (levels := self.fixed.get(f"{members[0]}:levels")) is not None:
                    self.parameters["grid"][f"{members[0]}:levels"] = torch.zeros_like(levels)
        for name in (
            _pre_scale(node) for node in self.graph.nodes if "pre_scale" in node.attrs and everything
        ):
            self.parameters["grid"][name] = self.fixed[name].new_zeros(())

    def _find_offsets(self) -> None:
        """Zero points: where layers make the values, and not as relu does, whose zero is its lowest code."""
        made = producers(self.graph)
        self.parameters["offset"] = {}
        for members in sharing(self.graph):
            q = self.graph.value(members[0]).q
            if q is not None and _consecutive(q) and all(_has_offset(made.get(n)) for n in members):
                self.parameters["offset"][members[0]] = self.fixed[f"{members[0]}:scale"].new_zeros(())
                self.offset_of.update(dict.fromkeys(members, members[0]))

    def _scale_gradients(self) -> None:
        """Gradients of step sizes times 1/sqrt(N Q): N numbers share one, Q is the largest code (LSQ)."""
        for node in self._quantized():
            weight = node.params["weight"]
            assert isinstance(weight, QTensor)
            count = weight.codes[0].size * int(usable(weight.levels).max())
            _times(self.parameters["scale"][node.name], count)
        for name in set(self.group_of.values()):
            value = self.graph.value(name)
            _times(self.parameters["grid"][name], math.prod(value.shape) * value.grid.qmax)
        for node in self.graph.nodes:
            if (pre := _pre_scale(node)) in self.parameters["grid"]:
                _times(self.parameters["grid"][pre], math.prod(self.graph.value(node.output).shape) * 255)

    def penalty(self, progress: float) -> Tensor | float:
        """What the loss has to be raised by for weights and ranges as they are, behind `state`: 0-dim.

        progress: how far training is, 0 to 1.
        """
        total = self.rounding.penalty(progress)
        scales = {*self.group_of.values(), *map(_pre_scale, self.graph.nodes)}
        ranges = [moved for name, moved in self.parameters["grid"].items() if name in scales]
        if self.asked.range_decay and ranges:
            total = total + self.asked.range_decay * (2.0 * torch.stack(ranges)).exp().mean()
        return total

    def at(self, weights: int = 0, activations: int = 0) -> None:
        """Trains from now on with at least so many bits, on grids of the same ranges; 0: as the format."""
        self.rounding.finer = {
            node.name: 1 << max(0, weights - node.params["weight"].format.bits)
            for node in self._quantized()
            if isinstance(node.params["weight"], QTensor)
        }
        self.finer = {
            name: 1 << max(0, activations - value.q.bits)
            for name, value in self.graph.values.items()
            if value.q is not None and _consecutive(value.q)
        }

    def _on_grids(self) -> Graph:
        """The graph on the activation grids of the moment."""
        divided = {name for name, parts in self.finer.items() if parts > 1}
        values = dict(self.graph.values)
        for name in (*self.offset_of, *(divided - self.offset_of.keys())):
            q, parts = values[name].grid, self.finer.get(name, 1)
            values[name] = replace(
                values[name], q=Divided(q.scale, self._zero(name) * parts, q.bits, parts=parts)
            )
        return replace(self.graph, values=values)

    def _zero(self, name: str) -> int:
        """The zero point of a value at present."""
        q = self.graph.value(name).grid
        if name not in self.offset_of:
            return q.zero_point
        moved = q.zero_point + float(self.parameters["offset"][self.offset_of[name]].detach())
        return min(max(round(moved), 0), q.qmax)

    def state(self, *, generator: torch.Generator | None = None, hard: bool = False) -> dict[str, Tensor]:
        """What torch_executor.forward computes `present` with: differentiable functions of the parameters.

        generator: of what is random in a step of training. hard: with the levels that AdaRound's weights
        would become now; latent ones are on levels always.
        """
        state = dict(self.fixed)
        self.present = self._on_grids()
        for value, group in self.group_of.items():
            state[f"{value}:scale"] = self.fixed[f"{value}:scale"] * self.parameters["grid"][group].exp()
            if (moved := self.parameters["grid"].get(f"{group}:levels")) is not None:
                place = _place_of_zero(self.graph.value(value).grid)
                state[f"{value}:levels"] = separate(self.fixed[f"{value}:levels"] + LEVEL_UNIT * moved, place)
        for value, group in self.offset_of.items():
            state[f"{value}:zero"] = self.parameters["offset"][group] * self.finer.get(value, 1)
        for value, fine in self.finer.items():
            if fine > 1:
                state[f"{value}:scale"] = state[f"{value}:scale"] / fine
        for node in self.graph.nodes:
            if (pre := _pre_scale(node)) in self.parameters["grid"]:
                state[pre] = self.fixed[pre] * self.parameters["grid"][pre].exp()
            if isinstance(node.params.get("weight"), QTensor):
                self._layer(node, state, generator, hard)
            if "table" in node.params and self._moves(node):
                state[f"{node.name}:table"] = _table(node, self.present, state)
        return state

    def _moves(self, node: Node) -> bool:
        for name in (node.output, node.inputs[0]):
            if name in self.group_of or name in self.offset_of or self.finer.get(name, 1) > 1:
                return True
        return _pre_scale(node) in self.parameters["grid"]

    def undecided(self, beta: float) -> Tensor:
        """AdaRound's regularizer, 0-dim: 1 for a layer whose every rounding is undecided, 0 for none."""
        assert self.between
        return torch.stack([undecided(self.parameters["weight"][name], beta) for name in self.between]).sum()

    def steps(self, name: str) -> Tensor:
        """The latent weights of a layer in steps of its scales, as they are before rounding."""
        latent, factor = self.parameters["weight"][name], self.parameters["scale"][name].exp()
        return latent * (self.unit[name] / _rows(factor, latent))

    def _layer(
        self, node: Node, state: dict[str, Tensor], generator: torch.Generator | None, hard: bool
    ) -> None:
        weight, factor = node.params["weight"], self.parameters["scale"][node.name].exp()
        assert isinstance(weight, QTensor)
        latent, between = self.parameters["weight"][node.name], self.between.get(node.name)
        if between is None:
            values = self.rounding(node.name, self.steps(node.name), weight.levels, generator)
        else:
            values = between.hard(latent) if hard else between.soft(latent)
        state[f"{node.name}:weight"] = values * self.kept[node.name] if node.name in self.kept else values
        scale = self.fixed[f"{node.name}:weight_scale"] * factor
        state[f"{node.name}:weight_scale"] = scale
        unit = state[f"{node.inputs[0]}:scale"] * scale
        state[f"{node.name}:bias"] = round_even(self._real_bias(node) / unit)

    def _real_bias(self, node: Node) -> Tensor:
        """Real bias, float32 [O]: where it began, plus what was learned."""
        x, output = f"{node.inputs[0]}:scale", f"{node.output}:scale"
        start = self.fixed[f"{node.name}:bias"].float() * (
            self.fixed[x] * self.fixed[f"{node.name}:weight_scale"]
        )
        target = self.fixed.get(f"{node.name}:pre_scale", self.fixed.get(output))
        q = self.graph.value(node.output).q
        codes = 256 if q is None or "pre_scale" in node.attrs else q.qmax + 1
        span = BIAS_UNIT if target is None else target * (codes * BIAS_UNIT)
        return start + self.parameters["bias"][node.name] * span

    def save(self, path: Path | None) -> None:
        """Writes the parameters, if there is a path."""
        if path is not None:
            write_state(path, {kind: dict(named) for kind, named in self.parameters.items()})

    def load(self, path: Path | None) -> bool:
        """Reads what `save` wrote; False, and nothing changes, if there is no such file."""
        if path is None or not path.exists():
            return False
        set_parameters(self.parameters, read_state(path), path)
        return True

    def result(self) -> Graph:
        """The graph with what was learned, rounded to its grids. Not verified."""
        self.at()
        with torch.no_grad():
            state = self.state(hard=True)
        values = dict(self.graph.values)
        for name in {**self.group_of, **self.offset_of}:
            scale, zero = float(state[f"{name}:scale"]), self._zero(name)
            q = replace(values[name].grid, scale=scale, zero_point=zero)
            if q.levels is not None:
                q = replace(q, levels=tuple(int(level) for level in state[f"{name}:levels"]))
            values[name] = replace(values[name], q=q)
        nodes = tuple(self._node(node, values, state) for node in self.graph.nodes)
        return replace(self.graph, nodes=nodes, values=values)

    def _node(self, node: Node, values: Mapping[str, Value], state: Mapping[str, Tensor]) -> Node:
        params: dict[str, Any] = dict(node.params)
        if (pre := _pre_scale(node)) in self.parameters["grid"]:
            node = node.with_(attrs={**node.attrs, "pre_scale": float(state[pre])})
        weight = params.get("weight")
        if isinstance(weight, QTensor):
            codes = codes_of(_channels_last(state[f"{node.name}:weight"]), weight.levels)
            scale = state[f"{node.name}:weight_scale"].cpu().numpy().astype(np.float32)
            params["weight"] = QTensor(codes, scale, weight.format, weight.levels)
            bias = state[f"{node.name}:bias"].double().clamp(-LARGEST_TRAINED, LARGEST_TRAINED)
            params["bias"] = bias.cpu().numpy().astype(np.int32)
        if "table" in params and self._moves(node):
            source = pre_activation(node, values[node.inputs[0]])
            assert source is not None
            function = activation_function(node.attrs["act"])
            params["table"] = activation_table(function, source, values[node.output].grid)
        return node.with_(params=params)


@dataclass(frozen=True)
class Divided(QParams):
    """A grid in training: that of `bits` with each step divided into `parts`; `scale` is that of `bits`.

    Its codes fit a byte while bits + log2(parts) <= 8.
    """

    parts: int = 1

    def __post_init__(self) -> None:
        """Nothing: what it was made of has been checked."""

    @property
    def qmax(self) -> int:
        return ((1 << self.bits) - 1) * self.parts


def _times(parameter: Tensor, count: int) -> None:
    """Scales each gradient that reaches the parameter by 1/sqrt(count)."""
    factor = 1.0 / math.sqrt(count)
    parameter.register_hook(lambda gradient: gradient * factor)


def _consecutive(q: QParams) -> bool:
    """Whether all codes up to the largest occur."""
    return q.qmax == (1 << q.bits) - 1


def _has_offset(node: Node | None) -> bool:
    """Whether a zero point of what the node makes can be learned."""
    if node is None or OPS[node.op].keeps_grid:
        return node is not None
    return is_weighted(node) and node.attrs["act"] not in ("relu", "relu6")


def _pre_scale(node: Node) -> str:
    """The name in a state of the scale in front of a node's table."""
    return f"{node.name}:pre_scale"


def _cells(values: Tensor, levels: np.ndarray, inside: float) -> tuple[Tensor, Tensor]:
    """The ends of what rounds to each of `values`, which are levels, less this share of it on either side."""
    grid = torch.from_numpy(np.unique(levels).astype(np.float32))
    low, high = _reach(levels)
    middles = (grid[1:] + grid[:-1]) / 2
    ends = torch.cat([grid.new_tensor([low]), middles, grid.new_tensor([high])])
    index = torch.searchsorted(grid, values.contiguous())
    margin = (ends[1:] - ends[:-1]) * inside
    return (ends[:-1] + margin)[index], (ends[1:] - margin)[index]


def _mean_step(levels: np.ndarray) -> float:
    """The mean distance of neighbouring levels."""
    grid = np.unique(levels).astype(np.float64)
    return float(grid[-1] - grid[0]) / (len(grid) - 1)


def _reach(levels: np.ndarray) -> tuple[float, float]:
    """What lies at most half a step outside the levels."""
    grid = np.unique(levels).astype(np.float64)
    return grid[0] - (grid[1] - grid[0]) / 2, grid[-1] + (grid[-1] - grid[-2]) / 2


def _channels_last(weight: Tensor) -> np.ndarray:
    order = weight.permute(0, 2, 3, 1) if weight.ndim == 4 else weight
    return np.ascontiguousarray(order.cpu().numpy())


def _rows(v: Tensor, like: Tensor) -> Tensor:
    return v.view(-1, *([1] * (like.ndim - 1)))


def _place_of_zero(q: QParams) -> int:
    """Which of its levels is the zero point."""
    assert q.levels is not None
    return q.levels.index(q.zero_point)


def separate(levels: Tensor, zero: int) -> Tensor:
    """The levels as different bytes in ascending order; level number `zero` stays. Straight through.

    levels: float32 [L], in the order that they are to have, the one that stays a whole number with room for
    the others. Outwards from it, each is rounded, is at least one more than the one before, and leaves room
    for those behind it.
    """
    free = levels.clone()
    free[zero] = levels[zero].detach()
    rounded = free.detach().round()
    above, below = _outwards(rounded[zero:], 255), -_outwards(-rounded[: zero + 1].flip(0), 0)
    return substitute(torch.cat([below.flip(0), above[1:]]), free.clamp(0.0, 255.0))


def _outwards(levels: Tensor, largest: int) -> Tensor:
    """Whole numbers, the first as it is, each next one at least one more, none above `largest`."""
    place = torch.arange(len(levels), dtype=levels.dtype, device=levels.device)
    apart = (levels - place).cummax(0).values + place
    return torch.minimum(apart, place + (largest + 1 - len(levels)))


def _table(node: Node, graph: Graph, state: Mapping[str, Tensor]) -> Tensor:
    """activation_table on the present scales and levels, float32 [256]; its gradient reaches the levels."""
    y, source = graph.value(node.output).grid, pre_activation(node, graph.value(node.inputs[0]))
    assert source is not None
    s_y = state[f"{node.output}:scale"].detach().double()
    moved = state.get(_pre_scale(node) if "pre_scale" in node.attrs else f"{node.inputs[0]}:scale")
    s = source.scale if moved is None else moved.detach().double()
    codes = torch.arange(256, dtype=torch.float64, device=s_y.device).clamp(max=source.qmax)
    exact = real(node.attrs["act"])((codes - source.zero_point) * s) / s_y
    if (levels := state.get(f"{node.output}:levels")) is None:
        return (exact.round() + y.zero_point).clamp(0, y.qmax).float()
    book = levels.detach().double()
    return levels[torch.bucketize(exact + y.zero_point, (book[1:] + book[:-1]) / 2)]
