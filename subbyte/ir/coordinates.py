"""Where the outputs of pools and of resizing lie on their input, in whole numbers: docs/spec/numerics.md.

Every executor takes its windows, indices and weights from here, or computes the same integers.
"""

from __future__ import annotations

from subbyte.ir.graph import Node

#: Weights of an interpolation along one axis add up to this.
UNIT = 1 << 11
#: Which point of the input an output stands for, as ONNX's Resize calls them; numerics.md has the formulas.
MODES = ("asymmetric", "half_pixel", "align_corners")

Span = tuple[int, int]  # the first position, and the one behind the last


def spans(node: Node, axis: int, extent: int, made: int) -> tuple[list[Span], list[int]]:
    """Along one axis (0: height) of a pool: the positions of the input for each output, and how many count.

    node: an avg_pool2d or adaptive_avg_pool2d; extent, made: positions of its input and its output.
    """
    if node.op == "adaptive_avg_pool2d":
        inside = [(i * extent // made, -(-(i + 1) * extent // made)) for i in range(made)]
        return inside, [end - begin for begin, end in inside]
    kernel, stride, before = (
        node.attrs["kernel"][axis],
        node.attrs["stride"][axis],
        node.attrs["pad"][2 * axis],
    )
    first = [i * stride - before for i in range(made)]
    inside = [(max(begin, 0), min(begin + kernel, extent)) for begin in first]
    counted = [kernel if node.attrs["count_pad"] else max(0, end - begin) for begin, end in inside]
    return inside, counted


def _source(mode: str, i: int, extent: int, made: int) -> tuple[int, int]:
    """The point of the input that output i stands for, as numerator and denominator."""
    if mode == "asymmetric":
        return i * extent, made
    if mode == "half_pixel":
        return max(0, (2 * i + 1) * extent - made), 2 * made
    return (0, 1) if made == 1 else (i * (extent - 1), made - 1)


def nearest(mode: str, extent: int, made: int) -> list[int]:
    """For each output along an axis, the position of the input that it copies."""
    result = []
    for i in range(made):
        if mode == "half_pixel":
            position = (2 * i + 1) * extent // (2 * made)
        else:
            numerator, denominator = _source(mode, i, extent, made)
            half = denominator if mode == "align_corners" else 0
            position = (2 * numerator + half) // (2 * denominator)
        result.append(min(position, extent - 1))
    return result


def linear(mode: str, extent: int, made: int) -> list[tuple[int, int, int, float]]:
    """For each output along an axis: two positions of the input, the second one's weight in units of
    1 / UNIT, and that weight as a float64, unrounded."""
    result = []
    for i in range(made):
        numerator, denominator = _source(mode, i, extent, made)
        first = min(numerator // denominator, extent - 1)
        rest = numerator - first * denominator
        if first == extent - 1:
            rest = 0
        weight = (2 * rest * UNIT + denominator) // (2 * denominator)
        result.append((first, min(first + 1, extent - 1), weight, rest / denominator))
    return result
