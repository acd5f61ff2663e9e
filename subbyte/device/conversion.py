"""What passing between codes and float32 costs: the price of a layer that stays in floating point."""

from __future__ import annotations

from subbyte.device.target import Cost, Target, layers
from subbyte.ir import Graph, Node, Value
from subbyte.quant import QParams
from subbyte.quant.format import FP32

Shape = tuple[int, ...]


def conversions(shape: Shape) -> Graph:
    """A network that only quantizes values of this shape and makes them real again, to be timed."""
    values = [Value("x", shape), Value("codes", shape, QParams(1.0, 128, 8)), Value("y", shape)]
    nodes = (Node("quantize", "quantize", ("x",), "codes"), Node("dequantize", "dequantize", ("codes",), "y"))
    return Graph("x", ("y",), {value.name: value for value in values}, nodes)


def conversion_cost(target: Target, op: str, shape: Shape) -> Cost:
    """Of a "quantize" or "dequantize" of values of this shape, at most: a target that counts traffic takes
    both sides for float32. InputError if the target does not know it."""
    return target.cost(layers(conversions(shape))[op], None, FP32)


def conversion_time(target: Target, op: str, shape: Shape) -> float:
    """Its milliseconds. InputError as `conversion_cost`."""
    return conversion_cost(target, op, shape).time
