"""Cost models of NPUs (docs/devices.md): calibrated, and beside what a compiler says.

python -m bench.npu calibrate        # the free constants of v2-npu, from the one point that is known
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from math import prod

from subbyte.device import Layer, find_target
from subbyte.device.network import Asked, border, convolution, linear, price
from subbyte.device.npu import Npu
from subbyte.errors import SubbyteError
from subbyte.quant.format import FP32, INT8, UINT8

#: What is known of the device that v2-npu stands for: ms and mW of a hand tracker of 50 million
#: multiplications and 800 KB of 8-bit weights.
KNOWN_MS, KNOWN_MW = 12.0, 180.0
#: Expansion, channels, blocks, stride of the first of them: inverted residuals (Sandler et al., arXiv
#: 1801.04381) of 3 x 3 on an image of 128 x 128, to the size of that tracker.
V1_SIDE, V1_STEM = 128, 16
V1_STAGES = ((1, 8, 1, 1), (4, 16, 2, 2), (4, 32, 2, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 112, 2, 2))
#: 21 points in space twice, whether there is a hand, and which.
V1_HEADS = (63, 63, 1, 1)


def v1() -> list[Asked]:
    """A network of the known tracker's size, of which no more is known: 50.3 M multiplications, 788,000
    weights."""
    image = (V1_SIDE, V1_SIDE, 3)
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


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_subparsers(dest="command", required=True).add_parser("calibrate")
    parser.parse_args(arguments)
    try:
        calibrate()
    except SubbyteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
