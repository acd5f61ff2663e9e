"""conv2d and linear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from subbyte.exporters.grids import residual_grid
from subbyte.exporters.tflite.writer import Row, Writer, padded
from subbyte.ir import Node
from subbyte.ir.graph import pre_activation
from subbyte.ir.ops import reach
from subbyte.quant import QTensor, qparams_from_range

_FUSED = {"none": 0, "relu": 1, "relu6": 3}  # ActivationFunctionType


def _weights(w: Writer, node: Node, axis: int, shape: Callable[[np.ndarray], np.ndarray]) -> list[int]:
    """The tensors of weight and bias. shape: how the weight lies; axis: its output channels then."""
    weight, bias = node.params["weight"], node.params["bias"]
    assert isinstance(bias, np.ndarray)
    names = [f"{node.name}/weight", f"{node.name}/bias"]
    if not isinstance(weight, QTensor):
        arrays = (shape(weight.astype(np.float32)), bias.astype(np.float32))
        return [w.constant(n, a) for n, a in zip(names, arrays, strict=True)]
    x = w.graph.value(node.inputs[0]).q
    assert x is not None
    zeros = [0] * len(weight.scale)
    scales = np.float64(x.scale) * weight.scale
    return [
        w.constant(names[0], shape(weight.values()), w.grid(weight.scale.tolist(), zeros, axis)),
        w.constant(names[1], bias, w.grid(scales.astype(np.float32).tolist(), zeros)),
    ]


def _layer(
    w: Writer, node: Node, kind: str, options: str, axis: int, shape: Any, x: int, **fields: Any
) -> None:
    """A convolution or linear layer with its activation and residual, as up to four operators."""
    value, act = w.graph.value(node.output), node.attrs["act"]
    quantized = w.graph.value(node.inputs[0]).q is not None
    target = pre_activation(node, value) if quantized else None
    if quantized and target is None:
        target = qparams_from_range(*w.range_of(node))
    residual = node.inputs[1:]
    if quantized and residual:
        target = residual_grid(w.graph, node, w.ranges)
    # a grid that the graph lacks
    real = quantized and (bool(residual) or value.q is None)
    fused = act in _FUSED
    inputs = [x, *_weights(w, node, axis, shape)]
    fields["fusedActivationFunction"] = _FUSED[act] if fused else 0
    if fused and not residual:
        made = w.op(kind, inputs, w.out(node, target), options, **fields)
        if real:
            w.other_grid(made, None)
        return
    current = w.op(kind, inputs, w.tensor(value, target, "/sum"), options, **fields)
    if real:
        w.other_grid(current, None)
    if not fused:
        output = None if residual or (quantized and act == "sigmoid") else w.out(node)
        current = w.activation(act, current, target and (value.q or target), value, output)
        w.values[node.output] = current
    if residual:
        w.op("ADD", [current, w.values[residual[0]]], w.out(node), "AddOptions")


def _conv2d(w: Writer, node: Node) -> None:
    x, weight = w.graph.value(node.inputs[0]), node.params["weight"]
    outputs, kernel, groups = weight.shape[0], weight.shape[1:3], node.attrs["groups"]
    padding, source = padded(w, node, reach(node, (kernel[0], kernel[1])))
    vertical, horizontal = node.attrs["stride"]
    fields = {"padding": padding, "strideH": vertical, "strideW": horizontal}
    down, across = node.attrs.get("dilation", (1, 1))
    fields |= {"dilationHFactor": down, "dilationWFactor": across}
    if groups == x.shape[2] == outputs and groups > 1:
        fields["depthMultiplier"] = 1
        options = "DepthwiseConv2DOptions"
        _layer(w, node, "DEPTHWISE_CONV_2D", options, 3, lambda a: a.transpose(3, 1, 2, 0), source, **fields)
    else:
        _layer(w, node, "CONV_2D", "Conv2DOptions", 0, lambda a: a, source, **fields)


def _linear(w: Writer, node: Node) -> None:
    source = w.values[node.inputs[0]]
    _layer(w, node, "FULLY_CONNECTED", "FullyConnectedOptions", 0, lambda a: a, source)


ROWS: dict[str, Row] = {"conv2d": _conv2d, "linear": _linear}
