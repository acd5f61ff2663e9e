"""Products, differences, quotients, slopes, other sizes, normalizations and attention."""

from __future__ import annotations

import numpy as np

from subbyte.execute.native.ops.moves import ratio
from subbyte.execute.native.step import Factors, Row
from subbyte.ir import Node, Value
from subbyte.ir.coordinates import MODES, UNIT
from subbyte.ir.grid_rules import slope_multipliers
from subbyte.quant import product_multiplier


def _product(inputs: list[Value], output: Value) -> Factors:
    return float(product_multiplier(*(value.grid for value in (*inputs, output)))), 0.0


def _difference(inputs: list[Value], output: Value) -> Factors:
    return ratio(inputs, output)[0], ratio(inputs[1:], output)[0]


def _interpolation(inputs: list[Value], output: Value) -> Factors:
    return float(np.float32(ratio(inputs, output)[0]) / np.float32(UNIT * UNIT)), 0.0


def _slopes(node: Node, inputs: list[Value], output: Value) -> np.ndarray:
    if output.q is None:
        return np.asarray(node.params["slope"])
    return slope_multipliers(node, inputs[0].grid, output.q)


def _mode(node: Node) -> list[int]:
    return [MODES.index(node.attrs["mode"])]


ROWS = {
    "multiply": Row("multiply", _product),
    "subtract": Row("subtract", _difference),
    "divide": Row("divide"),
    "sqrt": Row("sqrt"),
    "prelu": Row("prelu", ratio, _slopes),
    "resize_nearest": Row("resize_nearest", numbers=_mode),
    "resize_bilinear": Row("resize_bilinear", _interpolation, numbers=_mode),
    "layer_norm": Row("layer_norm"),
    "group_norm": Row("group_norm"),
    "softmax": Row("softmax"),
    "matmul": Row("matmul"),
}
