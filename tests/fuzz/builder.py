"""Makes small valid graphs: the material of the artifact tests and of the fuzzer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from subbyte.execute.reference import activation_function
from subbyte.ir import OPS, Graph, Node, Value, verify
from subbyte.ir.grid_rules import makes_table
from subbyte.quant import QParams, QTensor, activation_table, quantize_bias, uniform_levels, weight_format
from subbyte.quant.format import pattern_named

#: Activations with other parameters than their defaults.
PARAMETRIC = (
    "leaky_relu:0.25",
    "leaky_relu:-1.5",
    "elu:0.5:1.0:1.0",
    "elu:1.6732632423543772:1.0507009873554805:1.0",  # SELU
    "elu:2.0:1.0:0.5",  # CELU
    "softplus:3.0",
    "clip:-0.375:1.25",
    "clip:0.5:3.4028234663852886e+38",
)


class Builder:
    """Appends nodes to a growing graph; every method returns the name of the value it made.

    Numbers come from `rng`; weights are scaled so that activations stay near 1.
    """

    def __init__(self, rng: random.Random, shape: tuple[int, ...]) -> None:
        self.rng = rng
        self.values = {"image": Value("image", shape)}
        self.nodes: list[Node] = []
        self.arrays = np.random.default_rng(rng.getrandbits(32))

    def shape(self, name: str) -> tuple[int, ...]:
        return self.values[name].shape

    def grid(self, bits: int = 8, low: float = -2.0, high: float = 2.0) -> QParams:
        """A grid over about low..high whose zero point is a code."""
        qmax = (1 << bits) - 1
        scale = float(np.float32((high - low) / qmax * self.rng.uniform(0.8, 1.2)))
        return QParams(scale, min(qmax, max(0, round(-low / scale))), bits)

    def levels(self, y: QParams) -> QParams:
        """The grid with as many random levels as it has codes, on a finer scale of 8 bits."""
        count = 1 << y.bits
        bytes_ = [int(v) for v in self.arrays.permutation(256)[:count]]
        scale = float(np.float32(y.scale * y.qmax / 255))
        near = min(range(count), key=lambda i: abs(bytes_[i] + y.low / scale))
        return QParams(scale, bytes_[near], y.bits, tuple(sorted(bytes_)))

    def add(
        self,
        op: str,
        inputs: Sequence[str],
        q: QParams | None = None,
        attrs: dict[str, Any] | None = None,
        params: dict[str, Any] | None = None,
    ) -> str:
        """Appends a node; its output's shape follows from the op."""
        number = len(self.nodes)
        node = Node(f"{op}{number}", op, tuple(inputs), f"v{number}", attrs or {}, params or {})
        shape = OPS[op].shape(node, [self.shape(name) for name in inputs])
        self.nodes.append(node)
        self.values[node.output] = Value(node.output, shape, q)
        return node.output

    def finish(self, *outputs: str) -> Graph:
        return verify(Graph("image", tuple(outputs), self.values, tuple(self.nodes)))

    # quantized operations

    def quantize(self, x: str, bits: int = 8) -> str:
        return self.add("quantize", [x], self.grid(bits))

    def weight(
        self, shape: tuple[int, ...], bits: int, codebook: bool | np.ndarray, pattern: str = "dense"
    ) -> QTensor:
        """Random codes; codebook: int8 [2**bits] levels, True for random ones, False for the plain ones.
        pattern: which of them stay."""
        codes = self.arrays.integers(0, 1 << bits, shape, dtype=np.uint8)
        format = replace(weight_format(bits), pattern=pattern_named(pattern))
        if format.pattern.mask is not None:
            codes[~format.pattern.mask(self.arrays.normal(size=shape))] = 0
        levels = codebook if isinstance(codebook, np.ndarray) else uniform_levels(bits)
        if codebook is True:
            levels = self.arrays.permutation(np.arange(-128, 128))[: 1 << bits].astype(np.int8)
        fan_in = int(np.prod(shape[1:]))
        largest = float(np.abs(levels.astype(np.int16)).max())
        spread = self.arrays.uniform(0.5, 2.0, shape[0]) / (largest * np.sqrt(fan_in))
        return QTensor(codes, spread.astype(np.float32), format.with_book(levels), levels)

    def _quantized_layer(
        self, op: str, inputs: list[str], weight: QTensor, attrs: dict[str, Any], y: QParams | None
    ) -> str:
        x = self.values[inputs[0]].q
        assert x is not None
        bias = quantize_bias(self.arrays.uniform(-0.3, 0.3, weight.shape[0]), x, weight.scale)
        params: dict[str, Any] = {"weight": weight, "bias": bias}
        if makes_table(attrs["act"], y):
            assert y is not None
            pre = self.grid(8, -4.0, 4.0)
            attrs |= {"pre_scale": pre.scale, "pre_zero": pre.zero_point}
            params["table"] = activation_table(activation_function(attrs["act"]), pre, y)
        return self.add(op, inputs, y, attrs, params)

    def qconv(
        self,
        x: str,
        channels: int,
        kernel: tuple[int, int] = (1, 1),
        stride: int | tuple[int, int] = 1,
        groups: int = 1,
        act: str = "none",
        bits: int = 8,
        out_bits: int | None = 8,
        codebook: bool | np.ndarray = False,
        residual: str | None = None,
        pad: tuple[int, int, int, int] | None = None,
        levels: bool = False,
        pattern: str = "dense",
        dilation: tuple[int, int] | None = None,
    ) -> str:
        """Quantized convolution; pad (t, b, l, r), None: "same"; out_bits None makes float32.

        levels: its output has some, unless it has 8 bits.
        """
        kh, kw = kernel
        shape = (channels, kh, kw, self.shape(x)[2] // groups)
        if pad is None:
            pad = ((kh - 1) // 2, kh // 2, (kw - 1) // 2, kw // 2)
        strides = (stride, stride) if isinstance(stride, int) else stride
        attrs: dict[str, Any] = {"stride": strides, "pad": pad, "groups": groups, "act": act}
        attrs |= {} if dilation is None else {"dilation": dilation}
        y = None if out_bits is None else self.grid(out_bits, 0.0 if act == "sigmoid" else -2.0)
        if levels and y is not None and y.bits < 8:
            y = self.levels(y)
        inputs = [x] if residual is None else [x, residual]
        weight = self.weight(shape, bits, codebook, pattern)
        return self._quantized_layer("conv2d", inputs, weight, attrs, y)

    def qlinear(
        self,
        x: str,
        features: int,
        bits: int = 8,
        act: str = "none",
        real: bool = True,
        out_bits: int = 8,
        levels: bool = False,
        pattern: str = "dense",
    ) -> str:
        weight = self.weight((features, self.shape(x)[0]), bits, False, pattern)
        y = None if real else self.grid(out_bits)
        if levels and y is not None and out_bits < 8:
            y = self.levels(y)
        return self._quantized_layer("linear", [x], weight, {"act": act}, y)

    def qactivation(self, x: str, act: str, bits: int = 8, levels: bool = False) -> str:
        q, y = self.values[x].q, self.grid(bits)
        if levels and bits < 8:
            y = self.levels(y)
        assert q is not None
        table = activation_table(activation_function(act), q, y)
        return self.add("activation", [x], y, {"act": act}, {"table": table})

    def squeeze_excite(
        self, x: str, reduced: int, bits: int = 8, act: str = "silu", spread: float | None = None
    ) -> str:
        """spread: with a channel_scale between 1 over it and it."""
        pooled = self.add("global_avg_pool", [x], self.grid(8, -1.0, 1.0))
        hidden = self.qconv(pooled, reduced, act=act, bits=bits)
        gate = self.qconv(hidden, self.shape(x)[2], act="sigmoid", bits=bits)
        params = {} if spread is None else self.channel_scale(x, spread)
        return self.add("mul", [x, gate], self.grid(8, -1.5, 1.5), None, params)

    def channel_scale(self, x: str, spread: float) -> dict[str, np.ndarray]:
        """The parameter of a mul of x: positive factors, one a channel, within 1 / spread and spread."""
        ends = self.arrays.uniform(-1.0, 1.0, self.shape(x)[2])
        ends /= np.abs(ends).max()
        return {"channel_scale": np.power(spread, ends).astype(np.float32)}

    # float operations

    def fconv(
        self,
        x: str,
        channels: int,
        kernel: int = 1,
        groups: int = 1,
        half: bool = False,
        stride: int = 1,
        act: str | None = None,
        residual: str | None = None,
    ) -> str:
        """float convolution, "same" padding; act None: none or silu."""
        shape = (channels, kernel, kernel, self.shape(x)[2] // groups)
        weight = self.arrays.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape)
        bias = self.arrays.normal(0, 0.1, channels).astype(np.float32)
        before, after = (kernel - 1) // 2, kernel // 2
        pad = (before, after, before, after)
        act = self.rng.choice(["none", "silu"]) if act is None else act
        attrs = {"stride": (stride, stride), "pad": pad, "groups": groups, "act": act}
        params = {"weight": weight.astype(np.float16 if half else np.float32), "bias": bias}
        return self.add("conv2d", [x] if residual is None else [x, residual], None, attrs, params)

    def fdilated(
        self,
        x: str,
        channels: int,
        kernel: tuple[int, int],
        dilation: tuple[int, int],
        pad: tuple[int, int, int, int],
        groups: int = 1,
    ) -> str:
        """float convolution whose taps lie apart."""
        shape = (channels, *kernel, self.shape(x)[2] // groups)
        weight = self.arrays.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
        bias = self.arrays.normal(0, 0.1, channels).astype(np.float32)
        attrs = {"stride": (1, 1), "pad": pad, "groups": groups, "act": "silu", "dilation": dilation}
        return self.add("conv2d", [x], None, attrs, {"weight": weight, "bias": bias})

    def flinear(self, x: str, features: int) -> str:
        weight = self.arrays.normal(0, 0.3, (features, self.shape(x)[0])).astype(np.float32)
        bias = self.arrays.normal(0, 0.1, features).astype(np.float32)
        return self.add("linear", [x], None, {"act": "none"}, {"weight": weight, "bias": bias})

    def batch_norm(self, x: str) -> str:
        channels = self.shape(x)[-1]
        params = {
            role: self.arrays.uniform(0.5, 1.5, channels).astype(np.float32)
            for role in ("weight", "bias", "mean", "var")
        }
        return self.add("batch_norm", [x], None, {"eps": 1e-3}, params)

    # either

    def max_pool(self, x: str, kernel: int = 3, stride: int = 2) -> str:
        pad = (kernel // 2,) * 4
        attrs = {"kernel": (kernel, kernel), "stride": (stride, stride), "pad": pad}
        return self.add("max_pool2d", [x], self.values[x].q, attrs)

    def concat(self, *inputs: str) -> str:
        return self.add("concat", inputs, self.values[inputs[0]].q)

    def flatten(self, x: str) -> str:
        return self.add("flatten", [x], self.values[x].q)

    def keep(self, op: str, x: str, **attrs: Any) -> str:
        """An operation that keeps the grid of its one input."""
        return self.add(op, [x], self.values[x].q, attrs)

    def numbers(self, x: str, *roles: str) -> dict[str, np.ndarray]:
        """Parameters with a float32 number for each channel of x."""
        return {role: self.arrays.normal(0.3, 1.0, self.shape(x)[-1]).astype(np.float32) for role in roles}

    def cut(self, x: str) -> str:
        """A random slice of a map."""
        ends = [self.rng.randint(1, extent) for extent in self.shape(x)]
        begins = [self.rng.randrange(end) for end in ends]
        steps = [self.rng.choice([1, 1, 2, 3]) for _ in ends]
        return self.keep("slice", x, begin=tuple(begins), end=tuple(ends), step=tuple(steps))

    def shuffle(self, x: str, size: tuple[int, ...] | None = None) -> str:
        """A map's elements by axes in a random order; size: of the result, None: the axes in that order."""
        height, width, channels = self.shape(x)
        divisor = self.rng.choice([d for d in range(1, channels + 1) if channels % d == 0])
        dims = [height, width, divisor, channels // divisor]
        perm = self.rng.sample(range(4), 4)
        made = [dims[axis] for axis in perm]
        size = (made[0], made[1], made[2] * made[3]) if size is None else size
        return self.keep("rearrange", x, dims=tuple(dims), perm=tuple(perm), size=size)

    def surrounded(self, x: str, mode: str) -> str:
        height, width, _ = self.shape(x)
        most = [2 if mode != "reflect" else min(2, n - 1) for n in (height, height, width, width)]
        return self.keep("pad", x, pad=tuple(self.rng.randint(0, n) for n in most), mode=mode)

    def average(self, x: str, kernel: tuple[int, int], stride: int = 1, count_pad: int = 0) -> str:
        pad = (kernel[0] // 2, (kernel[0] - 1) // 2, kernel[1] // 2, (kernel[1] - 1) // 2)
        attrs = {"kernel": kernel, "stride": (stride, stride), "pad": pad, "count_pad": count_pad}
        return self.add("avg_pool2d", [x], self.own(x), attrs)

    def own(self, x: str) -> QParams | None:
        """A new grid where x has one."""
        return None if self.values[x].q is None else self.grid()
