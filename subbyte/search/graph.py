"""A candidate as a Graph, without tracing a module: what its costs are asked of.

The graph is the one that importing the torch module gives, node for node (tests/unit/search compare them), in
milliseconds in place of seconds. Its weights are random: devices that skip zeros must find none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from subbyte.ir import OPS, Graph, Node, Value, verify
from subbyte.models.tables import Architecture, Stage, round_channels
from subbyte.quantize.assignment import assignments
from subbyte.quantize.attach import attach
from subbyte.quantize.histogram import BINS, Histogram
from subbyte.quantize.prepare import split_for_integers
from subbyte.recipes import ActivationRange, Override, Recipe, WeightRange
from subbyte.search.space import Candidate

CHANNELS = 3  # of an image


def float_graph(candidate: Candidate, outputs: int) -> Graph:
    """float32, optimized, verified; `outputs` numbers."""
    side = (candidate.resolution, candidate.resolution, CHANNELS)
    return _Builder({"input": Value("input", side)}).network(candidate.architecture, outputs)


def quantized_graph(candidate: Candidate, outputs: int) -> Graph:
    """The same in the formats of `recipe_of`, with grids that fit no images: as fast, as large, and of no
    other use."""
    graph, recipe = float_graph(candidate, outputs), recipe_of(candidate)
    quick = recipe.model_copy(
        update={"weights": WeightRange(range="minmax"), "activations": ActivationRange(range="minmax")}
    )
    split, asked = split_for_integers(graph, assignments(graph, quick))
    return attach(split, asked, quick, _Anything())


def recipe_of(candidate: Candidate) -> Recipe:
    """How the candidate is to be compressed: 8 bits, but for the formats of its stages' weights."""
    rules = tuple(
        Override(match=f"blocks.{i}.*", weights=stage.format)
        for i, stage in enumerate(candidate.stages)
        if stage.weights != "int8"
    )
    return Recipe(
        name="searched",
        override=rules,
        activations=ActivationRange(range="fisher"),
        steps=("bias_correction",),
    )


class _Anything(dict[str, Histogram]):
    """Every value is spread evenly over -1 .. 1."""

    def __missing__(self, name: str) -> Histogram:
        seen = Histogram()
        seen.limit, seen.low, seen.high, seen.counts = 1.0, -1.0, 1.0, np.ones(BINS, np.int64)
        return seen


@dataclass
class _Builder:
    """Appends nodes, each named as the module that it stands for; methods give the name of a value."""

    values: dict[str, Value]
    nodes: list[Node] = field(default_factory=list)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def network(self, net: Architecture, outputs: int) -> Graph:
        x = self.conv("conv_stem", "input", net.stem, 3, 2, act=net.activation)
        for i, stage in enumerate(net.stages):
            for j in range(stage.repeats):
                stride = stage.stride if j == 0 else 1
                x = _BLOCKS[stage.kind](self, f"blocks.{i}.{j}", x, stage, stride, net.activation)
        x = self.conv("conv_head", x, net.head, act=net.activation)
        x = self.add("classifier.flatten", "flatten", self.add("pool", "global_avg_pool", x))
        weight = self.drawn((outputs, net.head))
        params = {"weight": weight, "bias": np.zeros(outputs, np.float32)}
        x = self.add("classifier", "linear", x, attrs={"act": "none"}, params=params)
        return verify(Graph("input", (x,), self.values, tuple(self.nodes)))

    def channels(self, value: str) -> int:
        return self.values[value].shape[-1]

    def drawn(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.random.standard_normal(shape, np.float32)

    def add(
        self,
        name: str,
        op: str,
        *inputs: str,
        attrs: Mapping[str, object] | None = None,
        params: Mapping[str, np.ndarray] | None = None,
    ) -> str:
        node = Node(name, op, inputs, name, attrs or {}, params or {})
        shape = OPS[op].shape(node, [self.values[value].shape for value in inputs])
        self.values[name] = Value(name, shape)
        self.nodes.append(node)
        return name

    def conv(
        self,
        name: str,
        x: str,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        act: str = "none",
        residual: str | None = None,
    ) -> str:
        weight = self.drawn((outputs, kernel, kernel, self.channels(x) // groups))
        params = {"weight": weight, "bias": np.zeros(outputs, np.float32)}
        attrs = {"stride": [stride] * 2, "pad": [kernel // 2] * 4, "groups": groups, "act": act}
        inputs = (x,) if residual is None else (x, residual)
        return self.add(name, "conv2d", *inputs, attrs=attrs, params=params)

    def gated(self, name: str, x: str, stage: Stage, act: str) -> str:
        """Squeeze-and-excitation, if the stage has it."""
        if not stage.se:
            return x
        hidden = self.channels(x)
        pooled = self.add(f"{name}.se.pool", "global_avg_pool", x)
        squeezed = self.conv(f"{name}.se.reduce", pooled, round(hidden * (stage.se / stage.expand)), act=act)
        gate = self.conv(f"{name}.se.expand", squeezed, hidden, act="sigmoid")
        return self.add(f"{name}.se.mul", "mul", x, gate)

    def skipped(self, x: str, stage: Stage, stride: int) -> str | None:
        """What a block adds to its output."""
        return x if stage.residual and stride == 1 and self.channels(x) == stage.channels else None


def _cn(b: _Builder, name: str, x: str, stage: Stage, stride: int, act: str) -> str:
    skip = b.skipped(x, stage, stride)
    y = b.conv(f"{name}.conv", x, stage.channels, stage.kernel, stride, act=act)
    return y if skip is None else b.add(f"{name}.add", "add", y, skip)


def _ds(b: _Builder, name: str, x: str, stage: Stage, stride: int, act: str) -> str:
    skip, inputs = b.skipped(x, stage, stride), b.channels(x)
    y = b.conv(f"{name}.conv_dw", x, inputs, stage.kernel, stride, groups=inputs, act=act)
    return b.conv(f"{name}.conv_pw", b.gated(name, y, stage, act), stage.channels, residual=skip)


def _ir(b: _Builder, name: str, x: str, stage: Stage, stride: int, act: str) -> str:
    skip, hidden = b.skipped(x, stage, stride), round_channels(b.channels(x) * stage.expand)
    y = b.conv(f"{name}.conv_pw", x, hidden, act=act)
    y = b.conv(f"{name}.conv_dw", y, hidden, stage.kernel, stride, groups=hidden, act=act)
    return b.conv(f"{name}.conv_pwl", b.gated(name, y, stage, act), stage.channels, residual=skip)


def _er(b: _Builder, name: str, x: str, stage: Stage, stride: int, act: str) -> str:
    skip, hidden = b.skipped(x, stage, stride), round_channels(b.channels(x) * stage.expand)
    y = b.conv(f"{name}.conv_exp", x, hidden, stage.kernel, stride, act=act)
    return b.conv(f"{name}.conv_pwl", b.gated(name, y, stage, act), stage.channels, residual=skip)


_BLOCKS = {"cn": _cn, "ds": _ds, "ir": _ir, "er": _er}
