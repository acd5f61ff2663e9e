"""What moves elements, and averages over windows."""

from __future__ import annotations

import numpy as np

from subbyte.execute.native.step import Factors, Row
from subbyte.ir import Node, Value
from subbyte.ir.op_shapes import PAD_MODES


def _slice(node: Node) -> list[int]:
    return [number for name in ("begin", "end", "step") for number in node.attrs[name]]


def ratio(inputs: list[Value], output: Value) -> Factors:
    """fl(s_x / s_y) of the first input."""
    return float(np.float32(inputs[0].grid.scale) / np.float32(output.grid.scale)), 0.0


ROWS = {
    "slice": Row("slice", numbers=_slice),
    "expand": Row("expand"),
    "rearrange": Row("rearrange", numbers=lambda node: [*node.attrs["dims"], *node.attrs["perm"]]),
    "pad": Row("pad", numbers=lambda node: [PAD_MODES.index(node.attrs["mode"])]),
    "avg_pool2d": Row("avg_pool2d", ratio, numbers=lambda node: [node.attrs["count_pad"]]),
    "adaptive_avg_pool2d": Row("adaptive_avg_pool2d", ratio),
}
