"""Pools, concat and flatten."""

from __future__ import annotations

import numpy as np

from subbyte.exporters.tflite.writer import Row, Writer, padded, plain
from subbyte.ir import Node


def _max_pool2d(w: Writer, node: Node) -> None:
    padding, source = padded(w, node, node.attrs["kernel"])
    (height, width), (vertical, horizontal) = node.attrs["kernel"], node.attrs["stride"]
    fields = {"padding": padding, "strideH": vertical, "strideW": horizontal}
    fields |= {"filterHeight": height, "filterWidth": width}
    w.op("MAX_POOL_2D", [source], w.out(node), "Pool2DOptions", **fields)


def _global_avg_pool(w: Writer, node: Node) -> None:
    axes = w.constant(f"{node.name}/axes", np.array([1, 2], np.int32))
    w.op("MEAN", [w.values[node.inputs[0]], axes], w.out(node), "ReducerOptions", keepDims=True)


def _flatten(w: Writer, node: Node) -> None:
    shape = np.array([w.batch, *w.graph.value(node.output).shape], np.int32)
    inputs = [w.values[node.inputs[0]], w.constant(f"{node.name}/shape", shape)]
    w.op("RESHAPE", inputs, w.out(node), "ReshapeOptions", newShape=shape.tolist())


ROWS: dict[str, Row] = {
    "global_avg_pool": _global_avg_pool,
    "max_pool2d": _max_pool2d,
    "concat": plain("CONCATENATION", "ConcatenationOptions", axis=3),
    "flatten": _flatten,
}
