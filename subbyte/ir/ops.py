"""The op table: everything about an operation that does not depend on who executes it.

An op works on float32 values or on quantized ones (uint8 codes on a grid); which, follows from
its values. The arithmetic of each is in docs/spec/numerics.md and subbyte/execute/reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from subbyte.errors import GraphError
from subbyte.ir import grid_rules, op_shapes
from subbyte.ir.activations import ACTIVATIONS, parse_activation
from subbyte.ir.graph import Graph, Node, Value
from subbyte.ir.limits import MAX_ELEMENTS, MAX_EXTENT, MAX_KERNEL

Shape = tuple[int, ...]


class Kind(Enum):
    """What an operation does, for all who need not know which one it is."""

    WEIGHTED = "sums of products with weights, which quantization rounds"
    ELEMENTWISE = "computes every element from those at its place, or normalizes them"
    POOL = "one number for a window of positions"
    MOVE = "elements stay as they are"
    GRID = "the same numbers in another form: codes or float32"


def _elements(node: Node, output: Shape, inputs: list[Shape]) -> int:
    return math.prod(output)


def _window_work(node: Node, output: Shape, inputs: list[Shape]) -> int:
    return math.prod(output) * math.prod(_window_kernel(node))


def _products(node: Node, output: Shape, inputs: list[Shape]) -> int:
    return math.prod(output) * math.prod(node.params["weight"].shape[1:])


def _inner_products(node: Node, output: Shape, inputs: list[Shape]) -> int:
    return math.prod(output) * inputs[0][-1]


def _window_kernel(node: Node) -> tuple[int, int]:
    return int(node.attrs["kernel"][0]), int(node.attrs["kernel"][1])


def _weight_kernel(node: Node) -> tuple[int, int]:
    return node.params["weight"].shape[1], node.params["weight"].shape[2]


@dataclass(frozen=True)
class OpDef:
    """A row of the table.

    arity: fewest and most inputs. shape: the output's, from the inputs'; GraphError if they do not fit.
    attrs and params list what a node must carry, `optional` what it may. rule: what must hold of grids and
    numbers beyond what holds for every op. kernel: (height, width) of its window. work: per image, from
    the output's shape and the inputs': multiply-accumulates of a weighted op, of every other the elements it
    touches.
    since: the first version of the file format that has it.
    lacks: executors and exporters (by their names in `EXECUTORS` and `EXPORTERS`) that do not take the op,
    and what a user does instead.
    """

    name: str
    kind: Kind
    arity: tuple[int, int]
    shape: Callable[[Node, list[Shape]], Shape]
    attrs: tuple[str, ...] = ()
    params: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    rule: Callable[[Node, list[Value], Value], None] = grid_rules.any_grids
    kernel: Callable[[Node], tuple[int, int]] = lambda node: (1, 1)
    work: Callable[[Node, Shape, list[Shape]], int] = _elements
    quantizable: bool = True
    keeps_grid: bool = False  # the output has the input's grid
    since: int = 1
    lacks: Mapping[str, str] = field(default_factory=dict)


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


def _some_ints(low: int, high: int) -> Callable[[object], bool]:
    return lambda value: (
        isinstance(value, (tuple, list)) and any(_ints(count, low, high)(value) for count in range(1, 9))
    )


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
    "begin": AttrDef(f"three ints in 0..{MAX_EXTENT - 1}", _ints(3, 0, MAX_EXTENT - 1)),
    "count_pad": AttrDef("0 or 1", lambda v: _is_int(v, 0, 1)),
    "dilation": AttrDef(
        f"two ints in 1..{MAX_KERNEL - 1}, not both 1",
        lambda v: _ints(2, 1, MAX_KERNEL - 1)(v) and tuple(v) != (1, 1),  # type: ignore[arg-type]
    ),
    "dims": AttrDef(f"one to eight ints in 1..{MAX_ELEMENTS}", _some_ints(1, MAX_ELEMENTS)),
    "end": AttrDef(f"three ints in 1..{MAX_EXTENT}", _ints(3, 1, MAX_EXTENT)),
    "eps": AttrDef("a positive float", _is_positive_float),
    "groups": AttrDef(f"an int in 1..{MAX_EXTENT}", lambda v: _is_int(v, 1, MAX_EXTENT)),
    "kernel": AttrDef(f"two ints in 1..{MAX_KERNEL}", _ints(2, 1, MAX_KERNEL)),
    "mode": AttrDef("the name of a mode", lambda v: isinstance(v, str)),
    "pad": AttrDef(f"four ints (t, b, l, r) in 0..{MAX_KERNEL - 1}", _ints(4, 0, MAX_KERNEL - 1)),
    "perm": AttrDef("one to eight ints in 0..7", _some_ints(0, 7)),
    "pre_scale": AttrDef("a positive float", _is_positive_float),
    "pre_zero": AttrDef("an int in 0..255", lambda v: _is_int(v, 0, 255)),
    "size": AttrDef(f"one to three ints in 1..{MAX_EXTENT}", _some_ints(1, MAX_EXTENT)),
    "step": AttrDef(f"three ints in 1..{MAX_EXTENT}", _ints(3, 1, MAX_EXTENT)),
    "stride": AttrDef(f"two ints in 1..{MAX_EXTENT}", _ints(2, 1, MAX_EXTENT)),
}


def _need(condition: bool, node: Node, text: str) -> None:
    if not condition:
        grid_rules.fail(node, text)


def reach(node: Node, kernel: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns from the first to the last of a window's positions: more than there are where it is
    dilated."""
    down, right = node.attrs.get("dilation", (1, 1))
    return (kernel[0] - 1) * down + 1, (kernel[1] - 1) * right + 1


def window(node: Node, shape: Shape, kernel: tuple[int, int]) -> tuple[int, int]:
    """Output height and width of a sliding window with the node's `stride`, `pad` and `dilation`."""
    stride, pad = node.attrs["stride"], node.attrs["pad"]
    _need(len(shape) == 3, node, f"needs a (H, W, C) input, got {shape}")
    _need(kernel[0] * kernel[1] <= MAX_KERNEL, node, f"kernel {kernel} has more than {MAX_KERNEL} positions")
    top, bottom, left, right = pad
    kernel = reach(node, kernel)
    _need(max(kernel) <= MAX_KERNEL, node, f"reaches over more than {MAX_KERNEL} rows or columns")
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
    return (math.prod(shapes[0]),)


def _batch_norm(node: Node, shapes: list[Shape]) -> Shape:
    for role in node.params:
        _need(node.params[role].shape == (shapes[0][-1],), node, f"{role} does not fit {shapes[0]}")
    return shapes[0]


def _max_pool2d(node: Node, shapes: list[Shape]) -> Shape:
    height, width = window(node, shapes[0], _window_kernel(node))
    return (height, width, shapes[0][2])


def _concat(node: Node, shapes: list[Shape]) -> Shape:
    _need(all(s[:-1] == shapes[0][:-1] for s in shapes), node, f"operands do not line up: {shapes}")
    return (*shapes[0][:-1], sum(s[-1] for s in shapes))


#: `act` is a text of subbyte.ir.activations. A quantized node whose `act` needs a table, or whose output has
#: levels, carries `pre_scale`, `pre_zero` (the 8-bit pre-activation grid) and the parameter `table` (uint8
#: [256]).
_TABLE = ("pre_scale", "pre_zero", "table")

_FOLD = "fold it with subbyte.passes.optimize first"
_FLOATS = {"onnx": "it takes float graphs; apply subbyte.passes.dequantize.dequantize_graph first"}

_POOLED = dict.fromkeys(
    ("onnx", "qdq", "qonnx"), "choose an input size of which the pool's output size is a divisor"
)
_NO_TFLITE = {"tflite": "export the network to ONNX, or run it with the engine"}

_LAYER = ("weight", "bias")
_STATISTICS = (*_LAYER, "mean", "var")

OPS: dict[str, OpDef] = {
    op.name: op
    for op in (
        OpDef("quantize", Kind.GRID, (1, 1), _same, rule=grid_rules.quantize, lacks=_FLOATS),
        OpDef("dequantize", Kind.GRID, (1, 1), _same, rule=grid_rules.dequantize, lacks=_FLOATS),
        # inputs: x [, residual]: act(conv(x) + bias) + residual; a quantized one with a residual has act none
        OpDef(
            "conv2d", Kind.WEIGHTED, (1, 2), _conv2d, ("stride", "pad", "groups", "act"), _LAYER,
            (*_TABLE, "dilation"), rule=grid_rules.layer, kernel=_weight_kernel, work=_products,
        ),
        OpDef(
            "linear", Kind.WEIGHTED, (1, 1), _linear, ("act",), _LAYER, _TABLE,
            rule=grid_rules.layer, work=_products,
        ),
        OpDef(
            "batch_norm", Kind.ELEMENTWISE, (1, 1), _batch_norm, ("eps",), _STATISTICS,
            rule=grid_rules.statistics, quantizable=False, lacks={"native": _FOLD, "tflite": _FOLD},
        ),
        OpDef(
            "activation", Kind.ELEMENTWISE, (1, 1), _same, ("act",), optional=("table",),
            rule=grid_rules.table,
        ),
        OpDef("add", Kind.ELEMENTWISE, (2, 2), _add, rule=grid_rules.ratio),
        # channel_scale: float32 [C], what multiplies each channel beside the gate
        OpDef(
            "mul", Kind.ELEMENTWISE, (2, 2), _mul, optional=("channel_scale",), rule=grid_rules.gate,
        ),
        OpDef("global_avg_pool", Kind.POOL, (1, 1), _global_avg_pool, rule=grid_rules.pooled_sum),
        OpDef(
            "max_pool2d", Kind.POOL, (1, 1), _max_pool2d, ("kernel", "stride", "pad"), kernel=_window_kernel,
            work=_window_work, keeps_grid=True,
        ),
        OpDef("concat", Kind.MOVE, (1, 64), _concat, keeps_grid=True),
        OpDef("flatten", Kind.MOVE, (1, 1), _flatten, keeps_grid=True),
        OpDef(
            "slice", Kind.MOVE, (1, 1), op_shapes.slice_, ("begin", "end", "step"), keeps_grid=True, since=3,
        ),
        OpDef(
            "expand", Kind.MOVE, (1, 1), op_shapes.expand, ("size",), keeps_grid=True, since=3,
            lacks=_NO_TFLITE,
        ),
        OpDef(
            "rearrange", Kind.MOVE, (1, 1), op_shapes.rearrange, ("dims", "perm", "size"), keeps_grid=True,
            since=3,
        ),
        OpDef(
            "pad", Kind.MOVE, (1, 1), op_shapes.pad, ("pad", "mode"), keeps_grid=True, since=3,
            lacks=_NO_TFLITE,
        ),
        OpDef(
            "avg_pool2d", Kind.POOL, (1, 1), _max_pool2d, ("kernel", "stride", "pad", "count_pad"),
            rule=grid_rules.ratio, kernel=_window_kernel, work=_window_work, since=3, lacks=_NO_TFLITE,
        ),
        OpDef(
            "adaptive_avg_pool2d", Kind.POOL, (1, 1), op_shapes.sized, ("size",),
            rule=grid_rules.pooled_sum, since=3,
            lacks=_NO_TFLITE | _POOLED,
        ),
        OpDef(
            "resize_nearest", Kind.MOVE, (1, 1), op_shapes.sized, ("size", "mode"), keeps_grid=True, since=3,
            lacks=_NO_TFLITE,
        ),
        OpDef(
            "resize_bilinear", Kind.POOL, (1, 1), op_shapes.sized, ("size", "mode"), rule=grid_rules.ratio,
            since=3, lacks=_NO_TFLITE,
        ),
        OpDef(
            "multiply", Kind.ELEMENTWISE, (2, 2), op_shapes.equal, rule=grid_rules.product, since=3,
            lacks=_NO_TFLITE,
        ),
        OpDef(
            "subtract", Kind.ELEMENTWISE, (2, 2), op_shapes.equal, rule=grid_rules.ratio, since=3,
            lacks=_NO_TFLITE,
        ),
        OpDef(
            "divide", Kind.ELEMENTWISE, (2, 2), op_shapes.equal, quantizable=False, since=3, lacks=_NO_TFLITE,
        ),
        OpDef("sqrt", Kind.ELEMENTWISE, (1, 1), _same, quantizable=False, since=3, lacks=_NO_TFLITE),
        # slope: float32 [C]
        OpDef(
            "prelu", Kind.ELEMENTWISE, (1, 1), op_shapes.per_channel, params=("slope",),
            rule=grid_rules.slopes, since=3, lacks=_NO_TFLITE,
        ),
        OpDef(
            "layer_norm", Kind.ELEMENTWISE, (1, 1), op_shapes.per_channel, ("eps",), _LAYER,
            rule=grid_rules.channel_numbers, quantizable=False, since=3, lacks=_NO_TFLITE,
        ),
        OpDef(
            "group_norm", Kind.ELEMENTWISE, (1, 1), op_shapes.grouped, ("eps", "groups"), _LAYER,
            rule=grid_rules.channel_numbers, quantizable=False, since=3, lacks=_NO_TFLITE,
        ),
        OpDef(
            "softmax", Kind.ELEMENTWISE, (1, 1), _same, quantizable=False, since=3, lacks=_NO_TFLITE,
        ),
        OpDef(
            "matmul", Kind.ELEMENTWISE, (2, 2), op_shapes.matmul, work=_inner_products, quantizable=False,
            since=3, lacks=_NO_TFLITE,
        ),
    )
}  # fmt: skip


def is_weighted(node: Node) -> bool:
    """Whether the node sums products with weights: a conv2d or a linear."""
    return OPS[node.op].kind is Kind.WEIGHTED


def adds_residual(node: Node) -> bool:
    """Whether the node adds its second input to its sums."""
    return is_weighted(node) and len(node.inputs) == 2


def is_plain(node: Node) -> bool:
    """Whether the node is sums of products and nothing else: no activation, no residual."""
    return is_weighted(node) and node.attrs["act"] == "none" and len(node.inputs) == 1


def refusal(node: Node, name: str, what: str) -> str | None:
    """Why an executor or exporter does not take a node, for its user; None if it does.

    name: its name in `lacks`; what: "the engine", "ONNX export".
    """
    advice = OPS[node.op].lacks.get(name)
    return advice and f"node {node.name!r}: {what} has no {node.op}; {advice}"


def work(graph: Graph) -> dict[str, int]:
    """Operations per image, by name of every node: see `OpDef.work`."""
    shapes = {name: value.shape for name, value in graph.values.items()}
    return {
        n.name: OPS[n.op].work(n, shapes[n.output], [shapes[name] for name in n.inputs]) for n in graph.nodes
    }


def macs(graph: Graph) -> dict[str, int]:
    """Multiply-accumulate operations per image, by name of every weighted node.

    Taps that fall into the padding count: the figure depends on shapes only, as in the literature.
    """
    costs = work(graph)
    return {node.name: costs[node.name] for node in graph.nodes if is_weighted(node)}
