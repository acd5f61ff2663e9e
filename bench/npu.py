"""Cost models of NPUs (docs/devices.md): calibrated, and beside what a compiler says.

    python -m bench.npu calibrate                    # the free constants of v2-npu, from the known point
    python -m bench.npu vela ARTIFACT [DEVICE]       # layer by layer beside Arm's compiler, and the error
    python -m bench.npu sparsity ARTIFACT [DEVICE]   # Vela's cycles with and without zeros of 2:4
    python -m bench.npu operators FILE [DEVICE]      # operators of an artifact or .tflite file off the NPU
    python -m bench.npu zigzag                       # energy of some layers on v2-npu, beside ZigZag's search
    python -m bench.npu space                        # which networks of the space "hands" v2-npu runs in time

DEVICE is ethos-u85-256, or another one of bench/vela.py. Vela is the package ethos-u-vela, ZigZag zigzag-dse.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import exp, log, prod
from pathlib import Path
from statistics import median

import numpy as np

from bench.vela import SETTINGS, by_node, compiled, exported
from bench.zigzag import searched
from subbyte.artifact import load
from subbyte.device import Layer, find_target
from subbyte.device.network import Asked, asked, border, convolution, linear, price
from subbyte.device.npu import Npu
from subbyte.errors import SubbyteError
from subbyte.ir import Graph, Node
from subbyte.quant import QTensor, weight_format
from subbyte.quant.format import FP32, INT8, UINT8
from subbyte.search import load_space
from subbyte.search.costs import Limits, costs_of

#: Map, outputs and kernel of convolutions that ZigZag is asked for.
ASKED: tuple[tuple[tuple[int, int, int], int, int], ...] = (
    ((32, 32, 16), 64, 1),
    ((8, 8, 64), 384, 1),
    ((8, 8, 384), 64, 1),
    ((4, 4, 672), 112, 1),
    ((16, 16, 32), 32, 3),
    ((8, 8, 64), 64, 3),
)
SPARSE = weight_format("int8+2:4")
PATTERN = SPARSE.pattern
#: What is known of the device that v2-npu stands for: ms and mW of a hand tracker of 50 million
#: multiplications and 800 KB of 8-bit weights.
KNOWN_MS, KNOWN_MW = 12.0, 180.0
#: Expansion, channels, blocks, stride of the first of them: inverted residuals (Sandler et al., arXiv
#: 1801.04381) of 3 x 3 on an image of 128 x 128, to the size of that tracker.
V1_SIDE, V1_STEM = 128, 16
V1_STAGES = ((1, 8, 1, 1), (4, 16, 2, 2), (4, 32, 2, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 112, 2, 2))
#: What a hand tracker may cost an image, and how many networks of a space are asked for; 21 points in space.
LATENCY, ENERGY, DRAWN, OUTPUTS = 8.0, 0.96, 250, 63
LIMITS = Limits(latency=LATENCY, energy=ENERGY)
#: 21 points in space twice, whether there is a hand, and which.
V1_HEADS = (63, 63, 1, 1)


def v1() -> list[Asked]:
    """A network of the known tracker's size, of which no more is known: 50.3 M multiplications, 788,000
    weights."""
    image: tuple[int, ...] = (V1_SIDE, V1_SIDE, 3)
    found: list[Layer] = []

    def add(
        outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, *, residual: bool = False
    ) -> None:
        shape = found[-1].output if found else image
        found.append(convolution(shape, outputs, kernel, stride, groups, residual=residual))

    add(V1_STEM, 3, 2)
    for expansion, channels, blocks, first in V1_STAGES:
        for stride in (first, *(1,) * (blocks - 1)):
            inputs = found[-1].output[2]
            wide = inputs * expansion
            if expansion > 1:
                add(wide)
            add(wide, 3, stride, wide)
            add(channels, residual=stride == 1 and inputs == channels)
    found += [linear(found[-1].output[2], outputs) for outputs in V1_HEADS]
    rows = [Asked(f"layer {i}", layer, INT8, UINT8) for i, layer in enumerate(found)]
    return [Asked("image", border(image), None, FP32), *rows]


def calibrated(device: Npu) -> Npu:
    """The device with the clock and the factor of energies that give the known point. The clock is found by
    bisection between 1 MHz and 10 GHz, as time falls with it."""
    low, high = 1.0, 1e4
    for _ in range(60):
        middle = (low * high) ** 0.5
        slow = price(with_clock(device, middle), v1()).time > KNOWN_MS
        low, high = (middle, high) if slow else (low, middle)
    device = with_clock(replace(device, factor=1.0), high)
    moving = price(replace(device, static=0.0), v1()).energy
    assert moving is not None
    still = 1e-3 * device.static * KNOWN_MS
    return replace(device, factor=(1e-3 * KNOWN_MW * KNOWN_MS - still) / moving)


def with_clock(device: Npu, clock: float) -> Npu:
    return replace(device, array=replace(device.array, clock=clock))


def calibrate() -> None:
    """Prints the constants, and what they would be with another share of static power."""
    device = find_target("v2-npu")
    assert isinstance(device, Npu)
    layers = [asked.layer for asked in v1()]
    weights = sum(prod(layer.weight or (0,)) for layer in layers)
    print(f"V1: {sum(layer.macs for layer in layers) / 1e6:.1f} MMAC, {weights / 1e3:.0f} thousand weights")
    found = price(device, v1())
    assert found.energy is not None
    print(f"v2-npu as it is: {found.time:.2f} ms, {found.energy:.3f} mJ an image")
    print("static, mW | array.frequency, MHz | power.factor")
    for share in (0.0, 0.125, 0.25, 0.375, 0.5):
        made = calibrated(replace(device, static=share * KNOWN_MW))
        print(f"{made.static:10.1f} | {made.array.clock:20.1f} | {made.factor:12.2f}")


def beside_vela(graph: Graph, device: str) -> None:
    """Prints cycles of every layer as the model and as Vela have them, and how far they are apart."""
    target, rows = find_target(device), asked(graph)
    vela = by_node(graph, compiled(exported(graph), device))
    print("layer | shape | Vela | of its array | here | waits for | here / Vela")
    ours, theirs, ratios = 0.0, 0.0, []
    for row, cost in zip(rows, price(target, rows).costs, strict=True):
        found = vela.get(row.name, [])
        cycles, array = sum(r.cycles for r in found), sum(r.array for r in found)
        if not cycles or cost.cycles is None or row.layer.op in ("quantize", "dequantize"):
            continue
        ours, theirs = ours + cost.cycles, theirs + cycles
        ratios.append(cost.cycles / cycles)
        print(
            f"{row.name} | {row.layer.signature} | {cycles:.0f} | {array:.0f} | {cost.cycles:.0f} | "
            f"{cost.bound} | {ratios[-1]:.2f}"
        )
    off = sorted(abs(log(ratio)) for ratio in ratios if ratio > 0.0)
    inside = sum(value <= log(1.25) for value in off) / len(off)
    print(f"{len(ratios)} layers, {theirs:.0f} cycles by Vela, {ours:.0f} here: {ours / theirs:.3f} of them")
    print(f"median error of a layer {100 * (exp(median(off)) - 1):.0f} %, {100 * inside:.0f} % within 25 %")


def sparse(graph: Graph) -> Graph:
    """The network with zeros of 2:4, the smaller of each group of 4 inputs, in all layers with as many."""

    def pruned(node: Node) -> Node:
        weight = node.params.get("weight")
        if not isinstance(weight, QTensor) or weight.shape[-1] < 4:
            return node
        mask = PATTERN.mask
        assert mask is not None
        codes = np.where(mask(weight.dequantize()), weight.codes, 0).astype(weight.codes.dtype)
        return replace(node, params={**node.params, "weight": replace(weight, codes=codes)})

    return replace(graph, nodes=tuple(pruned(node) for node in graph.nodes))


def with_and_without(graph: Graph, device: str) -> None:
    """Prints Vela's cycles of every layer, dense and with zeros of 2:4, and what the model expects."""
    both = [by_node(each, compiled(exported(each), device)) for each in (graph, sparse(graph))]
    target, sums, arrays = find_target(device), [0.0, 0.0], [0.0, 0.0]
    print("layer | shape | cycles dense | 2:4 | faster | of the array alone | expected here")
    for row in asked(graph):
        cycles = [sum(r.cycles for r in found.get(row.name, [])) for found in both]
        array = [sum(r.array for r in found.get(row.name, [])) for found in both]
        sums = [a + b for a, b in zip(sums, cycles, strict=True)]
        arrays = [a + b for a, b in zip(arrays, array, strict=True)]
        if row.weights != INT8 or not all(array) or row.layer.weight is None or row.layer.weight[-1] < 4:
            continue
        dense, half = (target.cost(row.layer, f, row.activations).cycles or 1.0 for f in (INT8, SPARSE))
        print(
            f"{row.name} | {row.layer.signature} | {cycles[0]:.0f} | {cycles[1]:.0f} | "
            f"{cycles[0] / cycles[1]:.2f} | {array[0] / array[1]:.2f} | {dense / half:.2f}"
        )
    print(f"all layers: {sums[0]:.0f} and {sums[1]:.0f} cycles: {sums[0] / sums[1]:.2f} times faster;")
    print(f"the array alone: {arrays[0]:.0f} and {arrays[1]:.0f}: {arrays[0] / arrays[1]:.2f} times")


def operators(data: bytes, device: str) -> None:
    """Prints the operators that do not run on the NPU."""
    rows = compiled(data, device)
    left = Counter(row.operator for row in rows if row.place != "NPU")
    print(f"{len(rows) - left.total()} operators on {device}, {left.total()} not")
    for operator, count in left.items():
        print(f"{count} x {operator}: {', '.join(r.name for r in rows if r.operator == operator)[:200]}")
    print(f"{sum(row.cycles for row in rows):.0f} cycles")


def beside_zigzag() -> None:
    """Prints energies without static power, and cycles, by the model and by ZigZag."""
    device = find_target("v2-npu")
    assert isinstance(device, Npu)
    moving = replace(device, static=0.0)
    print("layer | mJ by ZigZag | here | here / ZigZag | cycles by ZigZag | here | here / ZigZag")
    for shape, outputs, kernel in ASKED:
        layer = convolution(shape, outputs, kernel)
        cost, (energy, cycles) = moving.cost(layer, INT8, UINT8), searched(device, layer)
        assert cost.energy is not None
        assert cost.cycles is not None
        print(
            f"{layer.signature} | {energy:.5f} | {cost.energy:.5f} | {cost.energy / energy:.2f} | "
            f"{cycles:.0f} | {cost.cycles:.0f} | {cost.cycles / cycles:.2f}",
            flush=True,
        )


def within_limits() -> None:
    """Prints what share of the space is within v2-npu's limits, and its networks of the most work."""
    space, device, chance = load_space("hands"), find_target("v2-npu"), random.Random(0)
    drawn = [space.random(chance) for _ in range(DRAWN)]
    pairs = list(zip(costs_of(space, drawn, OUTPUTS, device), drawn, strict=True))
    fitting = [pair for pair in pairs if not any(v > 0.0 for v in LIMITS.violations(pair[0]))]
    in_time = sum(costs.latency <= LATENCY for costs, _ in pairs)
    print(f"{DRAWN} networks: {in_time} within {LATENCY} ms, {len(fitting)} also within {ENERGY} mJ")
    print("MMAC | ms | mJ | bytes | input | stages: kind, depth, channels, expansion, weights")
    for costs, one in sorted(fitting, key=lambda pair: -pair[0].macs)[:5]:
        stages = ", ".join(f"{s.kind} {s.depth} {s.channels} {s.expand} {s.weights}" for s in one.stages)
        print(
            f"{costs.macs / 1e6:.1f} | {costs.latency:.2f} | {costs.energy:.3f} | {costs.size} | "
            f"{one.resolution} | {stages}"
        )


#: Commands that need no file.
ALONE = {"calibrate": calibrate, "zigzag": beside_zigzag, "space": within_limits}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=(*ALONE, "vela", "sparsity", "operators"))
    parser.add_argument("file", type=Path, nargs="?", help="an artifact; operators: also a .tflite file")
    parser.add_argument("device", nargs="?", default="ethos-u85-256", choices=SETTINGS)
    options = parser.parse_args(arguments)
    try:
        if options.command in ALONE:
            ALONE[options.command]()
            return 0
        if options.file is None:
            parser.error(f"{options.command} needs a file")
        if options.command == "operators":
            own = options.file.suffix == ".tflite"
            operators(
                options.file.read_bytes() if own else exported(load(options.file).graph), options.device
            )
            return 0
        command = beside_vela if options.command == "vela" else with_and_without
        command(load(options.file).graph, options.device)
    except (SubbyteError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
