"""The op table: name, arity, attributes, parameters and shape rule of every operation.

An op works on float32 values or on quantized ones (uint8 codes on a grid); which, follows from
its values. The arithmetic of each is in docs/spec/numerics.md and subbyte/execute/reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from subbyte.errors import GraphError
from subbyte.ir.activations import ACTIVATIONS, parse_activation
from subbyte.ir.graph import Node
from subbyte.ir.limits import MAX_EXTENT, MAX_KERNEL

Shape = tuple[int, ...]


@dataclass(frozen=True)
class OpDef:
    """A row of the table. `attrs` and `params` list what a node must carry, `optional` what it may."""

    name: str
    arity: tuple[int, int]
    shape: Callable[[Node, list[Shape]], Shape]
    attrs: tuple[str, ...] = ()
    params: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    quantizable: bool = True
    keeps_grid: bool = False  # the output has the input's grid


@dataclass(frozen=True)
class AttrDef:
    """What an attribute must be: in words, and as a check that accepts any object."""

    what: str
    accepts: Callable[[object], bool]


def _is_int(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _ints(count: int, low: int, high: int) -> Callable[[object], bool]:
    def accepts(value: object) -> bool:
        fits = isinstance(value, (tuple, list)) and len(value) == count
        return fits and all(_is_int(item, low, high) for item in value)  # type: ignore[attr-defined]

    return accepts


def _is_act(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(parse_activation(value))
    except GraphError:
        return False


def _is_positive_float(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value) and value > 0


#: Every attribute's type and range; plain Python numbers, so that they survive JSON unchanged.
ATTRS: dict[str, AttrDef] = {
    "act": AttrDef(f"one of {', '.join(ACTIVATIONS)}, with its parameters if any", _is_act),
    "eps": AttrDef("a positive float", _is_positive_float),
    "groups": AttrDef(f"an int in 1..{MAX_EXTENT}", lambda v: _is_int(v, 1, MAX_EXTENT)),
    "kernel": AttrDef(f"two ints in 1..{MAX_KERNEL}", _ints(2, 1, MAX_KERNEL)),
    "pad": AttrDef(f"four ints (t, b, l, r) in 0..{MAX_KERNEL - 1}", _ints(4, 0, MAX_KERNEL - 1)),
    "pre_scale": AttrDef("a positive float", _is_positive_float),
    "pre_zero": AttrDef("an int in 0..255", lambda v: _is_int(v, 0, 255)),
    "stride": AttrDef(f"two ints in 1..{MAX_EXTENT}", _ints(2, 1, MAX_EXTENT)),
}


def _need(condition: bool, node: Node, text: str) -> None:
    if not condition:
        raise GraphError(f"node {node.name!r} ({node.op}): {text}")


def window(node: Node, shape: Shape, kernel: tuple[int, int]) -> tuple[int, int]:
    """Output height and width of a sliding window with the node's `stride` and `pad`."""
    stride, pad = node.attrs["stride"], node.attrs["pad"]
    _need(len(shape) == 3, node, f"needs a (H, W, C) input, got {shape}")
    _need(kernel[0] * kernel[1] <= MAX_KERNEL, node, f"kernel {kernel} has more than {MAX_KERNEL} positions")
    top, bottom, left, right = pad
    _need(
        max(top, bottom) < kernel[0] and max(left, right) < kernel[1],
        node,
        "pad must be smaller than the kernel",
    )
    height, width = shape[0] + top + bottom - kernel[0], shape[1] + left + right - kernel[1]
    _need(height >= 0 and width >= 0, node, f"kernel {kernel} is larger than its padded input {shape}")
    return height // stride[0] + 1, width // stride[1] + 1


def _conv2d(node: Node, shapes: list[Shape]) -> Shape:
    weight, groups = node.params["weight"].shape, node.attrs["groups"]
    _need(len(weight) == 4, node, f"weight must be [O, kh, kw, I/groups], got {weight}")
    out_channels, kh, kw, in_group = weight
    _need(min(weight) >= 1, node, "empty weight")
    height, width = window(node, shapes[0], (kh, kw))
    _need(
        shapes[0][2] == in_group * groups,
        node,
        f"weight {weight} x {groups} groups does not fit input {shapes[0]}",
    )
    _need(out_channels % groups == 0, node, "output channels are not a multiple of the groups")
    result = (height, width, out_channels)
    _need(len(shapes) == 1 or shapes[1] == result, node, "the residual has another shape than the output")
    return result


def _linear(node: Node, shapes: list[Shape]) -> Shape:
    weight = node.params["weight"].shape
    _need(len(weight) == 2 and min(weight) >= 1, node, f"weight must be [O, I], got {weight}")
    _need(shapes[0] == (weight[1],), node, f"weight {weight} does not fit input {shapes[0]}")
    return (weight[0],)


def _same(node: Node, shapes: list[Shape]) -> Shape:
    return shapes[0]


def _add(node: Node, shapes: list[Shape]) -> Shape:
    _need(shapes[0] == shapes[1], node, f"operands differ in shape: {shapes[0]} and {shapes[1]}")
    return shapes[0]


def _mul(node: Node, shapes: list[Shape]) -> Shape:
    x, gate = shapes
    _need(
        len(x) == 3 and gate == (1, 1, x[2]), node, f"needs (H, W, C) times a gate (1, 1, C), got {x}, {gate}"
    )
    return x


def _global_avg_pool(node: Node, shapes: list[Shape]) -> Shape:
    _need(len(shapes[0]) == 3, node, f"needs a (H, W, C) input, got {shapes[0]}")
    return (1, 1, shapes[0][2])


def _flatten(node: Node, shapes: list[Shape]) -> Shape:
    size = 1
    for extent in shapes[0]:
        size *= extent
    return (size,)


def _batch_norm(node: Node, shapes: list[Shape]) -> Shape:
    for role in ("weight", "bias", "mean", "var"):
        _need(node.params[role].shape == (shapes[0][-1],), node, f"{role} does not fit {shapes[0]}")
    return shapes[0]


def _max_pool2d(node: Node, shapes: list[Shape]) -> Shape:
    height, width = window(node, shapes[0], tuple(node.attrs["kernel"]))
    return (height, width, shapes[0][2])


def _concat(node: Node, shapes: list[Shape]) -> Shape:
    _need(all(s[:-1] == shapes[0][:-1] for s in shapes), node, f"operands do not line up: {shapes}")
    return (*shapes[0][:-1], sum(s[-1] for s in shapes))


#: `act` is a text of subbyte.ir.activations. A quantized node whose `act` needs a table carries `pre_scale`,
#: `pre_zero` (the 8-bit pre-activation grid) and the parameter `table` (uint8 [256]).
_TABLE = ("pre_scale", "pre_zero", "table")

OPS: dict[str, OpDef] = {
    op.name: op
    for op in (
        OpDef("quantize", (1, 1), _same),
        OpDef("dequantize", (1, 1), _same),
        # inputs: x [, residual]: act(conv(x) + bias) + residual; a quantized one with a residual has act none
        OpDef("conv2d", (1, 2), _conv2d, ("stride", "pad", "groups", "act"), ("weight", "bias"), _TABLE),
        OpDef("linear", (1, 1), _linear, ("act",), ("weight", "bias"), _TABLE),
        OpDef(
            "batch_norm", (1, 1), _batch_norm, ("eps",), ("weight", "bias", "mean", "var"), quantizable=False
        ),
        OpDef("activation", (1, 1), _same, ("act",), (), ("table",)),
        OpDef("add", (2, 2), _add),
        OpDef("mul", (2, 2), _mul),
        OpDef("global_avg_pool", (1, 1), _global_avg_pool),
        OpDef("max_pool2d", (1, 1), _max_pool2d, ("kernel", "stride", "pad"), keeps_grid=True),
        OpDef("concat", (1, 64), _concat, keeps_grid=True),
        OpDef("flatten", (1, 1), _flatten, keeps_grid=True),
    )
}
