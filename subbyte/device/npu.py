"""A neural processing unit: time and energy of a layer from the shape of the array and the memories.

docs/devices.md states the model. A layer takes as long as the slowest of four things that go on at the same
time: products in the array, sums that leave it, traffic of the on-chip memory, traffic of main memory. Before
that the first tile has to arrive; tiles after it are loaded while the one before is worked on (double
buffering). Maps that fit on chip never go to main memory; what is fused costs neither. Energy is that of
every multiplication, of every byte of both memories, and of the power that flows whatever happens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from subbyte.device.size import node_bytes
from subbyte.device.target import Cost, Layer, Memory
from subbyte.errors import InputError
from subbyte.ir import OPS, Graph
from subbyte.ir.limits import peak_live_bytes
from subbyte.ir.ops import Kind
from subbyte.quant import Format
from subbyte.quant.format import FP32
from subbyte.quant.pattern import DENSE

Fusion = Literal["activation", "sum", "product"]
#: What a profile can say that the array's output stage does on the way: functions of one number (tables,
#: PReLU), sums with another map (residuals, add, subtract), products with one (gates, mul, multiply).
FUSIONS: tuple[Fusion, ...] = ("activation", "sum", "product")
_SUMS, _PRODUCTS = ("add", "subtract"), ("mul", "multiply")
#: Operations that only say where numbers lie: nothing moves.
_VIEWS = ("flatten", "concat")
#: Operations that go over their input twice: for its statistics, then for the result.
_TWICE = ("softmax", "layer_norm", "group_norm")


@dataclass(frozen=True)
class Mode:
    """A way to feed the array: in `cycles` cycles, rows x columns output pixels of `outputs` channels take up
    `inputs` input channels (1 in a depthwise layer) at `taps` positions of the window."""

    rows: int
    columns: int
    outputs: int
    inputs: int
    taps: int
    cycles: int

    @property
    def rate(self) -> float:
        """Multiply-accumulates a cycle where every lane has work."""
        return self.rows * self.columns * self.outputs * self.inputs * self.taps / self.cycles


@dataclass(frozen=True)
class Array:
    """clock: MHz. dense, depthwise: modes, of which each layer takes the fastest. outputs: numbers that leave
    it a cycle. launch: cycles before a layer begins. block: rows, columns and channels of the outputs whose
    sums it holds at once."""

    clock: float
    dense: tuple[Mode, ...]
    depthwise: tuple[Mode, ...]
    outputs: float
    launch: float
    block: tuple[int, int, int]

    @cached_property
    def peak(self) -> float:
        """Multiply-accumulates a cycle, at most."""
        return max(mode.rate for mode in self.dense)


@dataclass(frozen=True)
class Sram:
    """size: bytes, of which `buffer` for two tiles of weights. width: bytes a cycle. energy: pJ a byte."""

    size: int
    buffer: int
    width: float
    energy: float

    @property
    def room(self) -> int:
        """Bytes that a map may have to stay on chip beside another one as large."""
        return (self.size - self.buffer) // 2


@dataclass(frozen=True)
class Dram:
    """bandwidth: GB/s. latency: ns until the first byte. prefetch: whether a layer's first tile of weights
    comes while the layer before is worked on. energy: pJ a byte."""

    bandwidth: float
    latency: float
    prefetch: bool
    energy: float


@dataclass(frozen=True)
class Precision:
    """Of a pair of formats. rate: of multiplications, beside the modes'. energy: pJ each."""

    rate: float
    energy: float


@dataclass(frozen=True)
class Work:
    """What a layer asks of the device: cycles of the array and of what leaves it, bytes of both memories,
    bytes of main memory that come before the first product, multiplications that are carried out, and pJ of
    each. extra: cycles of further passes over the map, for what is not fused; again: bytes of SRAM in
    them."""

    array: float = 0.0
    outputs: float = 0.0
    sram: float = 0.0
    dram: float = 0.0
    first: float = 0.0
    macs: float = 0.0
    mac_energy: float = 0.0
    extra: float = 0.0
    again: float = 0.0


@dataclass(frozen=True)
class Npu:
    """A Target. vector: elements a cycle of operations without weights that are not fused. channels: to a
    multiple of which maps are stored. precisions: by the dense formats of weights and activations. sparsity:
    by the name of a pattern, how many times faster its zeros make the array. fused: what costs nothing on the
    way out of the array. static: mW, always. factor: what all energies of arithmetic and memories are
    multiplied by.
    """

    name: str
    array: Array
    vector: float
    sram: Sram
    dram: Dram
    channels: int
    precisions: Mapping[tuple[Format, Format], Precision]
    sparsity: Mapping[str, float]
    fused: frozenset[Fusion]
    static: float
    factor: float
    here: bool = False

    def prepare(self, graphs: Mapping[str, Graph]) -> None:
        """Nothing: the profile says all."""

    def supports(self, layer: Layer, weights: Format | None, activations: Format) -> bool:
        """Whether the profile has these formats. Images and results may be float32 outside: they cross the
        border, in operations that change grids, as codes of a byte; what becomes of a vector of results there
        is the host's work."""
        if OPS[layer.op].kind is Kind.GRID or _on_host(layer, weights, activations):
            return True
        if weights is None:
            return any(activations.plain == second for _, second in self.precisions)
        known = (weights.dense, activations.plain) in self.precisions
        return known and (weights.pattern == DENSE or weights.pattern.name in self.sparsity)

    def cost(self, layer: Layer, weights: Format | None, activations: Format) -> Cost:
        """For one image. InputError for formats that the device does not run."""
        if not self.supports(layer, weights, activations):
            raise InputError(f"{self.name} does not run {weights or layer.op} on {activations} activations")
        if _on_host(layer, weights, activations):
            return Cost(0.0, 0, 0.0, 0.0, 0.0, "host")
        work = self._work(layer, weights, activations)
        per_cycle = 1e3 * self.dram.bandwidth / self.array.clock  # bytes
        first = min(work.first, work.dram)
        busy = {
            "array": work.array,
            "outputs": work.outputs,
            "SRAM": work.sram / self.sram.width,
            "DRAM": (work.dram - first) / per_cycle,
        }
        bound = max(busy, key=lambda part: busy[part])
        cycles = busy[bound]
        wait = first / per_cycle + (1e-3 * self.dram.latency * self.array.clock if first else 0.0)
        if wait > cycles:
            bound = "first tile"
        if layer.weight is not None:
            cycles += self.array.launch
        cycles += wait + work.extra
        time = 1e-3 * cycles / self.array.clock  # ms
        chip, outside = (work.sram + work.again) * self.sram.energy, work.dram * self.dram.energy
        picojoule = self.factor * (work.macs * work.mac_energy + chip + outside)
        used = work.macs / (cycles * self.array.peak) if cycles else 0.0
        return Cost(
            time,
            round(work.dram),
            1e-9 * picojoule + 1e-3 * self.static * time,
            cycles,
            used,
            bound if cycles else "",
        )

    def memory(self, graph: Graph) -> Memory:
        """Values that are alive at once, and parameters as a file holds them."""
        return Memory(peak_live_bytes(graph), sum(map(node_bytes, graph.nodes)))

    def _work(self, layer: Layer, weights: Format | None, activations: Format) -> Work:
        kind = OPS[layer.op].kind
        if kind is Kind.GRID:
            bytes_ = math.prod(layer.output)
            return Work(sram=bytes_, dram=bytes_)
        if layer.op == "matmul":
            return self._products(layer, activations)
        if weights is not None and layer.weight is not None:
            return self._weighted(layer, weights, activations)
        if layer.op in _VIEWS:
            return Work()
        read, written = self._read(layer, activations), self._bytes(layer.output, activations)
        if kind is Kind.ELEMENTWISE:
            need: Fusion = (
                "sum" if layer.op in _SUMS else "product" if layer.op in _PRODUCTS else "activation"
            )
            if need in self.fused and layer.op not in _TWICE:  # the producer writes the result instead
                other = read - self._bytes(layer.input, activations)
                return Work(sram=other, dram=0.0 if self._stays(other) else other)
        made = self._count(written, activations) * math.prod(layer.kernel)
        elements = max(self._count(read, activations), made)
        passes = 2 if layer.op in _TWICE else 1
        outside = sum(0.0 if self._stays(size) else size for size in (read, written))
        return Work(
            outputs=0.0 if kind is Kind.MOVE else passes * elements / self.vector,
            sram=passes * read + written + outside,
            dram=outside,
        )

    def _weighted(self, layer: Layer, weights: Format, activations: Format) -> Work:
        """A convolution or linear layer, its epilogue with it."""
        assert layer.weight is not None
        precision = self.precisions[weights.dense, activations.plain]
        height, width, channels = ((1, 1, *layer.output) if len(layer.output) == 1 else layer.output)[-3:]
        taps, inputs = math.prod(layer.weight[1:-1]), layer.weight[-1]
        depthwise = layer.groups > 1 and inputs == 1
        sparse = weights.pattern != DENSE and not depthwise  # depthwise layers are always dense
        kept = math.ceil(inputs / self.sparsity[weights.pattern.name]) if sparse else inputs
        groups = 1 if depthwise else layer.groups
        modes = self.array.depthwise if depthwise else self.array.dense
        array = min(
            mode.cycles
            * groups
            * -(-height // mode.rows)
            * -(-width // mode.columns)
            * -(-(channels // groups) // mode.outputs)
            * (1 if depthwise else -(-kept // mode.inputs))
            * -(-taps // mode.taps)
            for mode in modes
        )
        x, y = self._bytes(layer.input, activations), self._bytes(layer.output, activations)
        other = self._read(layer, activations) - x
        stored = weights.bytes(layer.weight) + 4 * channels  # and the biases
        rows, columns, depth = self.array.block
        blocks = -(-height // rows) * -(-width // columns)
        passes = 1 if depthwise else -(-(channels // groups) // depth)
        dram = self._traffic(x, stored)
        outside_y = 0.0 if self._stays(y) else y
        outside_other = 0.0 if self._stays(other) else other
        fused_other = other if "sum" in self.fused else 0.0
        sram = x * passes + stored * blocks + y + fused_other + dram + outside_y + outside_other
        outputs = math.prod(layer.output) / self.array.outputs
        extra, again = 0.0, 0.0
        for need, asked in (
            ("activation", layer.epilogue == "table"),
            ("sum", layer.residual),
            ("product", layer.gated),
        ):
            if asked and need not in self.fused:  # another pass over the map
                size = x if need == "product" else y
                bytes_ = 2 * size + (other if need == "sum" else 0.0)
                extra += max(self._count(size, activations) / self.vector, bytes_ / self.sram.width)
                again += bytes_
        half = self.sram.buffer // 2
        first = 0.0 if self.dram.prefetch else min(stored, half)
        if not self._stays(x):
            first += min(x * (rows + layer.kernel[0]) / max(layer.input[0], 1), x)
        return Work(
            array / precision.rate,
            outputs,
            sram,
            dram + outside_y + outside_other,
            first,
            layer.macs * kept / inputs,
            precision.energy,
            extra,
            again,
        )

    def _products(self, layer: Layer, activations: Format) -> Work:
        """A product of two maps: the second lies in the place of weights."""
        rate, energy = min(
            ((p.rate, p.energy) for (_, read), p in self.precisions.items() if read == activations.plain),
            key=lambda pair: pair[0],
        )
        inner, columns = layer.input[-1], layer.output[-1]
        rows = math.prod(layer.output[:-1])
        array = min(
            mode.cycles
            * -(-rows // (mode.rows * mode.columns))
            * -(-columns // mode.outputs)
            * -(-inner // mode.inputs)
            for mode in self.array.dense
        )
        moved = self._read(layer, activations) + self._bytes(layer.output, activations)
        outside = 0.0 if self._stays(moved / 2) else moved
        macs = math.prod(layer.output) * inner
        return Work(
            array / rate,
            math.prod(layer.output) / self.array.outputs,
            moved + outside,
            outside,
            0.0,
            macs,
            energy,
        )

    def _bytes(self, shape: tuple[int, ...], activations: Format) -> float:
        """Of a map as it is stored."""
        channels = -(-shape[-1] // self.channels) * self.channels if len(shape) == 3 else shape[-1]
        return math.prod(shape[:-1]) * channels * activations.bits / 8

    @staticmethod
    def _count(size: float, activations: Format) -> float:
        """Numbers of so many bytes."""
        return size * 8 / activations.bits

    def _read(self, layer: Layer, activations: Format) -> float:
        """Bytes of all inputs."""
        rest = layer.read - math.prod(layer.input)
        return self._bytes(layer.input, activations) + rest * activations.bits / 8

    def _stays(self, size: float) -> bool:
        return size <= self.sram.room

    def _traffic(self, x: float, weights: float) -> float:
        """Bytes from main memory: weights once where the map is on chip; else the cheaper of going over the
        map for every tile of weights and over the weights for every tile of the map."""
        if self._stays(x):
            return weights
        tiles_of_weights = math.ceil(weights / (self.sram.buffer / 2))
        tiles_of_map = math.ceil(x / self.sram.room)
        return min(weights + tiles_of_weights * x, tiles_of_map * weights + x)


def _on_host(layer: Layer, weights: Format | None, activations: Format) -> bool:
    """A function of results in float32."""
    return (
        weights is None
        and activations == FP32
        and len(layer.output) == 1
        and OPS[layer.op].kind is not Kind.GRID
    )
