"""A file's network to a Graph, operator by operator."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from subbyte.errors import GraphError
from subbyte.importers.rules.builder import Rejected
from subbyte.importers.rules.problems import Problem, Site
from subbyte.importers.tflite.builder import Operand
from subbyte.importers.tflite.call import Call, Constant, Growing, Source, need
from subbyte.importers.tflite.flatbuffer import Damaged
from subbyte.importers.tflite.model import Model, Operator, Tensor
from subbyte.importers.tflite.operators import RULES, VIEWS, advice
from subbyte.ir import Graph
from subbyte.quant import QParams

#: Operators behind the last softmax that change no number's meaning.
_FORMS = ("DEQUANTIZE", "QUANTIZE", "RESHAPE", "SQUEEZE")
#: By number of tensor; None behind a problem, where no stand-in has the shape.
Environment = dict[int, Source]


@dataclass(frozen=True)
class Place(Site):
    """An operator of the file. module: the name of the tensor that it makes; number: its own, from 0."""

    number: int = 0

    def __str__(self) -> str:
        return f"operator {self.operator} (number {self.number}, which makes {self.module!r})"


@dataclass(frozen=True)
class Translated:
    """The graph, or everything that stops the network from having one.

    left_out: names of what softmax operators at the end make, which the graph does not. shapes: of outputs
    that are neither a map nor a vector in the file, and are vectors here, by name.
    """

    graph: Graph | None
    problems: tuple[Problem, ...]
    left_out: tuple[str, ...] = ()
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()


def input_shape(model: Model) -> tuple[int, int, int]:
    """(H, W, C) of the input. Damaged if it is no single image of a fixed size."""
    tensor = model.tensors[model.input]
    if tensor.odd:
        raise Damaged(f"its input cannot be used: {tensor.odd}")
    if len(tensor.shape) != 4 or tensor.shape[0] != 1 or min(tensor.shape) < 1:
        raise Damaged(f"its input is {list(tensor.shape)}, not one image [1, height, width, channels]")
    height, width, channels = tensor.shape[1:]
    return height, width, channels


def translate(model: Model, *, real: bool) -> Translated:
    """The graph of a model, with its own quantization, or (`real`) of the real numbers that it stands for.

    An unsupported operator is noted, and the operators behind it looked at; of those that only read what it
    made, nothing is said unless they are unsupported themselves.

    Raises Damaged for a file that contradicts itself, Asymmetric for weights that only `real` can take,
    GraphError for a graph that breaks a rule.
    """
    codes = any(tensor.dtype in ("int8", "uint8") and tensor.data is None for tensor in model.tensors)
    b = Growing(input_shape(model), real, mixed=codes and not real, own=model.grids)
    env: Environment = {
        number: Constant(tensor) for number, tensor in enumerate(model.tensors) if tensor.data is not None
    }
    image = model.tensors[model.input]
    env[model.input] = Operand(b.input, image.shape)
    problems: list[Problem] = []
    made = {model.input}
    left_out = _softmax_at_the_end(model)
    for number, operator in enumerate(model.operators):
        if len(operator.outputs) == 0:
            raise Damaged(f"operator {number} ({operator.kind}) makes nothing")
        for tensor in operator.outputs:
            if tensor in made or model.tensors[tensor].data is not None:
                raise Damaged(f"tensor {tensor} is made twice, or is a constant that an operator makes")
            made.add(tensor)
        for tensor in operator.inputs:
            if tensor >= 0 and tensor not in env:
                raise Damaged(
                    f"operator {number} ({operator.kind}) reads tensor {tensor}, which nothing makes"
                )
        place = Place(operator.kind, model.tensors[operator.outputs[0]].name, "", "", number)
        env.update(_step(b, model, operator, place, env, problems, number in left_out))
    outputs, shapes = _outputs(b, model, env, problems)
    if problems:
        return Translated(None, tuple(problems))
    names = tuple(model.tensors[model.operators[number].outputs[0]].name for number in sorted(left_out))
    kinds = (model.operators[number].kind == "SOFTMAX" for number in sorted(left_out))
    softmax = tuple(name for name, kind in zip(names, kinds, strict=True) if kind)
    return Translated(b.finish(outputs), (), softmax, shapes)


def _step(
    b: Growing,
    model: Model,
    operator: Operator,
    place: Place,
    env: Environment,
    problems: list[Problem],
    left_out: bool,
) -> Environment:
    """What the operator's outputs are. A refusal becomes a problem, and the result a stand-in."""
    inputs = tuple(None if number < 0 else env[number] for number in operator.inputs)
    behind_problem = any(number >= 0 and env[number] is None for number in operator.inputs)
    tensor = model.tensors[operator.outputs[0]]
    b.path = place.module or operator.kind
    try:
        if not behind_problem:
            if left_out:
                return {operator.outputs[0]: inputs[0]}
            results = _translated(b, operator, inputs, tensor, model, place)
            return dict(zip(operator.outputs, results, strict=True))
        if operator.kind not in RULES:
            raise Rejected(advice(operator.kind))
    except Rejected as reason:
        text = str(reason) if reason.origin is None else f"{place} reads its result; {reason}"
        problems.append(Problem(reason.origin or place, text))
    except GraphError as error:
        problems.append(Problem(place, re.sub(r"^node .*?\): ", "", str(error))))
    return {number: _stand_in(b, model.tensors[number]) for number in operator.outputs}


def _stand_in(b: Growing, tensor: Tensor) -> Operand | None:
    if len(tensor.shape) == 4 and tensor.shape[0] == 1 and min(tensor.shape) >= 1:
        made = b.stand_in((1, tensor.shape[3], *tensor.shape[1:3]))
        return made and replace(made, shape=tensor.shape)
    return b.stand_in(tensor.shape) if len(tensor.shape) == 2 else None


def _translated(
    b: Growing,
    operator: Operator,
    inputs: tuple[Source, ...],
    tensor: Tensor,
    model: Model,
    place: Place,
) -> tuple[Source, ...]:
    if operator.kind == "DEQUANTIZE" and inputs and isinstance(inputs[0], Constant):
        return (inputs[0],)  # whoever reads it takes the real numbers
    rule = RULES.get(operator.kind)
    if rule is None:
        raise Rejected(advice(operator.kind))
    for number in (*operator.inputs, *operator.outputs):
        odd = model.tensors[number].odd if number >= 0 else ""
        need(odd == "", f"{model.tensors[number].name!r} cannot be used: {odd}")
    given = list(inputs)
    for i, x in enumerate(given):
        if isinstance(x, Operand) and x.value == b.input:
            given[i] = replace(x, value=_image(b, model))
    call = Call(b, operator, tuple(given), tensor)
    made = rule(call)
    results = made if isinstance(made, tuple) else (made,)
    count = len(operator.outputs)
    need(len(results) == count, f"it makes {count} results, of which {len(results)} are known")
    for number, result in zip(operator.outputs, results, strict=True):
        said = model.tensors[number].shape
        need(said in ((), result.shape), f"it makes {list(result.shape)} where the file says {list(said)}")
    return tuple(replace(result, origin=place) if rule in VIEWS else result for result in results)


def _image(b: Growing, model: Model) -> str:
    """The input as the first operators read it: on its grid, if it has one."""
    tensor = model.tensors[model.input]
    q: QParams | None = Call(b, model.operators[0], (), tensor).q
    if q is None:
        return b.input
    for value, node in b.producers.items():
        if node.op == "quantize" and node.inputs == (b.input,):
            return value
    return b.emit("quantize", [b.input], name=f"{tensor.name or 'input'}.quantize", q=q)


def _softmax_at_the_end(model: Model) -> set[int]:
    """Numbers of the operators that are left out: a softmax behind which nothing follows but other forms of
    the same numbers, down to an output, and these."""
    readers: dict[int, list[int]] = {}
    for number, operator in enumerate(model.operators):
        for tensor in operator.inputs:
            readers.setdefault(tensor, []).append(number)
    found: set[int] = set()
    for number, operator in enumerate(model.operators):
        if operator.kind == "SOFTMAX":
            chain, last = [number], operator.outputs[0] if operator.outputs else -1
            while len(chain) <= len(model.operators):
                after = readers.get(last, [])
                if last in model.outputs and not after:
                    found.update(chain)
                    break
                if len(after) != 1 or last in model.outputs or model.operators[after[0]].kind not in _FORMS:
                    break
                chain += after
                last = (*model.operators[after[0]].outputs, -1)[0]
    return found


def _outputs(
    b: Growing, model: Model, env: Environment, problems: list[Problem]
) -> tuple[list[str], tuple[tuple[str, tuple[int, ...]], ...]]:
    values, shapes = [], []
    for number in model.outputs:
        tensor, x = model.tensors[number], env.get(number)
        if number not in env:
            raise Damaged(f"its output, tensor {number}, is made by no operator")
        if x is None:
            continue  # behind a problem
        b.path = tensor.name or "output"
        try:
            value = _output(b, x)
        except Rejected as reason:  # an output is named itself, not the view that it is
            problems.append(Problem(Site(f"output {b.path!r}", "", ""), str(reason)))
            continue
        values.append(value)
        if isinstance(x, Operand) and len(x.shape) not in (2, 4):
            shapes.append((b.path, x.shape))
    return values, tuple(shapes)


def _output(b: Growing, x: Source) -> str:
    """In real numbers."""
    if not isinstance(x, Operand):
        raise Rejected("it does not depend on the image; leave it out")
    if x.value == b.input:
        raise Rejected("it is the image itself; leave it out")
    size = 1
    for n in x.shape:
        size *= n
    value = b.map(x) if len(x.shape) == 4 else b.flat(replace(x, shape=(1, size)))
    return value if b.q(value) is None else b.emit("dequantize", [value], name=b.sub("real"))
