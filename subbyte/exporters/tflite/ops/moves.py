"""slice and rearrange."""

from __future__ import annotations

import numpy as np

from subbyte.exporters.tflite.writer import Row, Writer
from subbyte.ir import Node, Value


def _slice(w: Writer, node: Node) -> None:
    bounds = [
        w.constant(f"{node.name}/{name}", np.array([first, *node.attrs[name]], np.int32))
        for name, first in (("begin", 0), ("end", w.batch), ("step", 1))
    ]
    w.op("STRIDED_SLICE", [w.values[node.inputs[0]], *bounds], w.out(node), "StridedSliceOptions")


def _rearrange(w: Writer, node: Node) -> None:
    dims, perm, q = node.attrs["dims"], node.attrs["perm"], w.graph.value(node.output).q

    def reshaped(x: int, shape: tuple[int, ...], name: str, output: int) -> int:
        numbers = np.array([w.batch, *shape], np.int32)
        inputs = [x, w.constant(f"{node.name}/{name}", numbers)]
        return w.op("RESHAPE", inputs, output, "ReshapeOptions", newShape=numbers.tolist())

    turned = tuple(dims[axis] for axis in perm)
    x = w.values[node.inputs[0]]
    x = reshaped(x, tuple(dims), "dims", w.tensor(Value(node.output, tuple(dims)), q, "/axes"))
    order = w.constant(f"{node.name}/perm", np.array([0, *(axis + 1 for axis in perm)], np.int32))
    x = w.op("TRANSPOSE", [x, order], w.tensor(Value(node.output, turned), q, "/turned"), "TransposeOptions")
    reshaped(x, tuple(node.attrs["size"]), "size", w.out(node))


ROWS: dict[str, Row] = {"slice": _slice, "rearrange": _rearrange}
