"""From the nodes of an ONNX file to a graph, node by node."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from subbyte.errors import GraphError, InputError, UnsupportedOperatorError
from subbyte.importers.onnx.fold import FOLDS, MAX_FOLDED
from subbyte.importers.onnx.ops import ROWS
from subbyte.importers.onnx.ops.elementwise import scaled
from subbyte.importers.onnx.read import Info, Model
from subbyte.importers.onnx.values import (
    Argument,
    Call,
    Constant,
    Curve,
    NodeSite,
    OnnxNode,
    Scaled,
    Translation,
)
from subbyte.importers.rules.builder import Rejected
from subbyte.importers.rules.operands import Builder, Operand
from subbyte.importers.rules.problems import Problem
from subbyte.ir import Graph
from subbyte.ir.limits import MAX_NODES

Note = TypeVar("Note")
OPSETS = range(11, 26)
#: How often a tensor of the file may be computed into another one: rounded, dequantized, turned, reshaped.
_TIMES = 8
#: Of the standard operators, and what ONNX Runtime's quantization writes.
_DOMAINS = ("", "com.microsoft")
#: Operators that a note of ours may call the inside of an operation (docs/decisions/0040-exact-qdq.md).
_ROUNDING = ("Mul", "Round", "Add")
#: Operators that read codes as they are.
_ANY_NUMBERS = (
    *("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast"),
    *("Shape", "Size", "QuantizeLinear", "DequantizeLinear", "MaxPool", "Concat", "QGemm"),
)
_ADVICE = {
    "If Loop Scan SequenceMap": "the graph has no branches and loops",
    "LSTM GRU RNN": "there are no recurrent layers",
    "DynamicQuantizeLinear ConvInteger MatMulInteger DynamicQuantizeMatMul MatMulIntegerToFloat": (
        "grids that depend on the image are not known; quantize it statically (QuantizeLinear)"
    ),
    "Attention MultiHeadAttention": "there is no attention; the engine runs convolutional networks",
    "NonMaxSuppression TopK ArgMax NonZero": "leave it out and apply it to the outputs",
}


@dataclass(frozen=True, eq=False)
class Translated:
    """The graph as the file says it, values on grids between quantize and dequantize, and what `Translation`
    keeps by value, under the graph's names."""

    graph: Graph
    notes: Translation


def translate(model: Model, shape: tuple[int, int, int]) -> Translated:
    """The graph of a file on one image of `shape` (H, W, C), float32 but for what the file quantizes.

    Raises InputError if the file's input is another, UnsupportedOperatorError for operators that have no
    row, with all of them.
    """
    if model.opset not in OPSETS:
        raise InputError(
            f"{model.facts['file']} has opset {model.opset}; read are {OPSETS[0]} to {OPSETS[-1]} "
            "(onnx.version_converter changes it)"
        )
    image = _image(model, shape)
    builder = Builder(shape, frozenset())
    t = Translation(builder, model.opset, _last(model), MAX_FOLDED + _TIMES * model.elements)
    t.unrounded = frozenset(name for name, q in model.grids.items() if q is None)
    env: dict[str, Argument | None] = dict(model.constants)
    if image.name in env:
        raise InputError(f"{model.facts['file']} has two values of the name {image.name!r:.80}")
    env[image.name] = _input(builder, image, shape)
    problems: list[Problem] = []
    for node in model.nodes:
        for name in filter(None, node.inputs):
            if name not in env:
                raise InputError(f"node {node.name!r} reads {name!r:.80}, which nothing before it makes")
        result = _result(t, node, env, problems)
        for number, name in enumerate(node.outputs):
            if name and name in env:
                raise InputError(f"node {node.name!r} makes {name!r:.80}, which is there already")
            several = result if isinstance(result, tuple) else (result,)
            env[name] = several[number] if number < len(several) else None if result is None else _More()
        if len(builder.producers) > MAX_NODES:
            raise InputError(f"the network has more than {MAX_NODES} operations")
    outputs = _outputs(t, model, env, problems)
    if problems:
        more = f"; and {len(problems) - 1} more, which `subbyte check` lists" if len(problems) > 1 else ""
        raise UnsupportedOperatorError(f"{problems[0]}{more}", tuple(problems))
    return _finished(t, outputs)


def _image(model: Model, shape: tuple[int, int, int]) -> Info:
    """The one input, whose sizes have to be those of the image."""
    file = model.facts["file"]
    if len(model.inputs) != 1:
        names = ", ".join(repr(info.name)[:40] for info in model.inputs[:4])
        raise InputError(f"{file} has {len(model.inputs)} inputs ({names}); a network reads one image")
    image = model.inputs[0]
    if image.type not in ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "UINT8", "INT8"):
        raise InputError(f"the input of {file} is {image.type or 'no tensor'}, not an image")
    if image.shape is None:
        return image
    height, width, channels = shape
    fits = [(1, channels, height, width), (1, height, width, channels)]
    if not any(_agree(image.shape, one) for one in fits):
        sizes = " x ".join("?" if n is None else str(n) for n in image.shape)
        raise InputError(
            f"the input of {file} is {sizes}, which no batch of one image of {height} x {width} "
            f"with {channels} channels is"
        )
    return image


def _agree(declared: tuple[int | None, ...], wanted: tuple[int, ...]) -> bool:
    return len(declared) == 4 and all(n in (None, m) for n, m in zip(declared, wanted, strict=True))


def _input(builder: Builder, image: Info, shape: tuple[int, int, int]) -> Operand:
    height, width, channels = shape
    if image.shape is None or _agree(image.shape, (1, channels, height, width)):
        return builder.made(builder.input, (1, channels, height, width))
    return builder.last(builder.input, (1, height, width, channels))


def _last(model: Model) -> frozenset[str]:
    """The values that reach outputs, through nodes that change nothing at most, and nothing else."""
    readers: dict[str, list[OnnxNode]] = {}
    for node in model.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    last: set[str] = set()
    for node in reversed(model.nodes):
        for name in node.outputs:
            nothing = all(
                reader.op in ("Identity", "DequantizeLinear", "QuantizeLinear", "Cast")
                and set(reader.outputs) <= last
                for reader in readers.get(name, [])
            )
            if nothing and (name in model.outputs or readers.get(name)):
                last.add(name)
    return frozenset(last)


class _More(Constant):
    """A result behind the first one."""

    def __init__(self) -> None:
        super().__init__(np.zeros(0))


def _result(
    t: Translation, node: OnnxNode, env: dict[str, Argument | None], problems: list[Problem]
) -> Argument | tuple[Argument, ...] | None:
    """What the node's first output, or each of them, stands for; None behind a problem."""
    t.builder.path = node.name
    try:
        if any(name and env[name] is None for name in node.inputs):
            _known(node)
            return None
        if any(name and isinstance(env[name], _More) for name in node.inputs):
            raise Rejected("it reads a second result of a node; only first ones are known")
        made = _translated(Call(t, node, tuple(env[name] if name else None for name in node.inputs)))
        t.room -= made.array.size if isinstance(made, Constant) else 0
        if t.room < 0:
            raise InputError("the file computes larger constants than it has tensors for")
        return made
    except Rejected as reason:
        text = str(reason) if reason.origin is None else f"{reason} ({reason.origin} makes it)"
    except GraphError as error:
        text = re.sub(r"^node .*?\): ", "", str(error))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        # numpy's words on arguments of a damaged file that fit nothing
        text = f"its arguments do not fit: {' '.join(str(error).split())[:200]}"
    problems.append(Problem(NodeSite(node.op, node.name, "ONNX"), text))
    return None


def _known(node: OnnxNode) -> None:
    if node.domain not in _DOMAINS:
        raise Rejected(f"operators of {node.domain!r:.80} are not known")
    if node.op not in ROWS and node.op not in FOLDS:
        advice = (text for names, text in _ADVICE.items() if node.op in names.split())
        raise Rejected(next(advice, "there is no such operation; build it from others, or leave it out"))


def _translated(call: Call) -> Argument | tuple[Argument, ...]:
    op = call.node.op
    if op in _ROUNDING and call.node.outputs[0] in call.t.unrounded and _numbers(call.inputs[1:]):
        return call.argument(0)
    _known(call.node)
    constant = all(x is None or isinstance(x, Constant) for x in call.inputs)
    if constant and op in FOLDS:
        return FOLDS[op](call)
    if op not in ROWS:
        raise Rejected("there is no such operation of what depends on the image")
    inputs: Iterable[Argument | None] = call.inputs
    if op not in ("Mul", "Div"):
        inputs = (scaled(call, x) if isinstance(x, Scaled) else x for x in inputs)
    call = Call(call.t, call.node, tuple(inputs))
    if op not in ("Add", "Mul") and any(isinstance(x, Curve) for x in call.inputs):
        raise Rejected("erf is known as a part of GELU only")
    if not _reads_codes(op) and any(_on_grid(call, x) for x in call.inputs):
        raise Rejected("it reads codes; a DequantizeLinear has to stand before it")
    return ROWS[op](call)


def _numbers(inputs: Iterable[Argument | None]) -> bool:
    return all(isinstance(x, Constant) and x.array.size == 1 for x in inputs)


def _reads_codes(op: str) -> bool:
    return op in _ANY_NUMBERS or op.startswith("QLinear")


def _on_grid(call: Call, x: Argument | None) -> bool:
    return isinstance(x, Operand) and call.b.values[x.value].q is not None


def _outputs(
    t: Translation, model: Model, env: dict[str, Argument | None], problems: list[Problem]
) -> list[str]:
    """The values that the file calls outputs; of codes, their real numbers."""
    builder, values = t.builder, []
    for name in model.outputs:
        if name not in env:
            raise InputError(f"nothing makes the output {name!r:.80}")
        x = env[name]
        if x is None:
            continue  # behind a problem
        builder.path = "output"
        try:
            if isinstance(x, Constant):
                raise Rejected("it does not depend on the image; leave it out")
            if isinstance(x, Curve):
                raise Rejected("erf is known as a part of GELU only")
            if isinstance(x, Scaled):
                raise Rejected("it is divided later, but is an output before")
            if len(x.shape) not in (2, 4):
                t.shapes[name] = x.shape
                x = builder.reshaped_to(x, (1, math.prod(x.shape)))
            value = builder.map(x) if len(x.shape) == 4 else builder.vector(x)
            if value == builder.input:
                raise Rejected("it is the image itself; leave it out")
            if builder.values[value].q is not None:
                value = builder.emit(
                    "dequantize", [value], name=f"{name[:80]}.real" if name.isprintable() else None
                )
            values.append(value)
        except (Rejected, GraphError) as reason:
            problems.append(Problem(NodeSite(f"output {name!r:.80}", "", ""), str(reason)))
    return values


def _finished(t: Translation, outputs: list[str]) -> Translated:
    graph = t.builder.finish(outputs)
    t.stored, t.functions = _renamed(t, t.stored), _renamed(t, t.functions)
    return Translated(graph, t)


def _renamed(t: Translation, notes: dict[str, Note]) -> dict[str, Note]:
    """By the names of the finished graph, also of what was repeated there on 1x1 maps."""
    forms = (
        (form, note) for value, note in notes.items() for form in (value, t.builder.again.get(value, value))
    )
    return {t.builder.names[form]: note for form, note in forms if form in t.builder.names}
