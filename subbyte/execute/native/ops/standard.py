"""What the engine runs, and the multipliers of numerics.md: residual, add, gate, pool."""

from __future__ import annotations

import numpy as np

from subbyte.execute.native.step import Factors, Row
from subbyte.ir import Node, Value
from subbyte.quant import QTensor, gate_multiplier_scale

f32 = np.float32


def _ratio(value: Value, output: Value) -> float:
    return float(f32(value.grid.scale) / f32(output.grid.scale))


def _gate(node: Node, inputs: list[Value], output: Value) -> np.ndarray | None:
    """M[c] of codes; on float32 values channel_scale itself."""
    scale = node.params.get("channel_scale")
    assert not isinstance(scale, QTensor)
    if output.q is None:
        return scale
    x, gate = (value.grid for value in inputs)
    multiplier = gate_multiplier_scale(x, gate, output.grid, scale)
    return np.broadcast_to(multiplier, output.shape[-1:])


def _pool(inputs: list[Value], output: Value) -> Factors:
    x, y, shape = inputs[0].grid, output.grid, inputs[0].shape
    return float(f32(x.scale) / f32(y.scale) / f32(shape[0] * shape[1])), 0.0


ROWS = {
    "quantize": Row("quantize"),
    "dequantize": Row("dequantize"),
    "conv2d": Row("conv2d", lambda x, y: (_ratio(x[1], y) if len(x) == 2 else 0.0, 0.0)),
    "linear": Row("conv2d"),  # a 1 x 1 convolution of a 1 x 1 map
    "activation": Row("activation"),
    "add": Row("add", lambda x, y: (_ratio(x[0], y), _ratio(x[1], y))),
    "mul": Row("mul", multiplier=_gate),
    "global_avg_pool": Row("global_avg_pool", _pool),
    "max_pool2d": Row("max_pool2d"),
    "concat": Row("concat"),
    "flatten": Row("flatten"),
}
