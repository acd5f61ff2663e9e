"""conv2d and linear: sums of products, with an activation and a residual behind them; batch_norm."""

from __future__ import annotations

import torch
from torch import Tensor

from subbyte.execute.torch import training_ops
from subbyte.execute.torch.step import (
    Row,
    Step,
    accumulate,
    bounds,
    from_table,
    per_channel,
    products,
    store,
)
from subbyte.execute.torch.straight_through import real, traced


def _layer(step: Step, arrays: list[Tensor]) -> Tensor:
    if not step.quantized:
        return _float_layer(step, arrays)
    acc = accumulate(step, arrays[0]).float()
    multiplier = step.grid(0).scale * step.param("weight_scale")
    if step.output.q is None:
        return _times(acc, per_channel(multiplier, acc))
    table = "table" in step.node.params
    target = step.pre if table else step.target
    v = _times(acc, per_channel(multiplier / target.scale, acc))
    if table:
        return from_table(step, store(v, target), target)
    if len(arrays) == 2:
        r = step.grid(1)
        v = v + (arrays[1] - r.zero) * (r.scale / target.scale)
    return store(v, target, *bounds(step.node.attrs["act"], target), step.unrounded)


def _times(v: Tensor, factor: Tensor) -> Tensor:
    """v * factor; overwrites `v` when nothing records gradients."""
    return v * factor if traced(v, factor) else v.mul_(factor)


def _float_layer(step: Step, arrays: list[Tensor]) -> Tensor:
    if step.bfloat16 and training_ops.narrows(step.node):
        sums = training_ops.narrow_products(step.node, arrays[0], step.param("weight"), step.param("bias"))
    else:
        sums = products(step.node, arrays[0], step.param("weight"))
        sums = sums + per_channel(step.param("bias"), sums)
    result = real(step.node.attrs["act"])(sums)
    return result + arrays[1] if len(arrays) == 2 else result


def _batch_norm(step: Step, arrays: list[Tensor]) -> Tensor:
    mean, var = step.param("mean").double(), step.param("var").double()
    scale = step.param("weight").double() / torch.sqrt(var + step.node.attrs["eps"])
    centred = arrays[0].double() - per_channel(mean, arrays[0])
    result = centred * per_channel(scale, centred) + per_channel(step.param("bias").double(), centred)
    return result.float()


ROWS = {
    "conv2d": Row(_layer, training_ops.layer),
    "linear": Row(_layer, training_ops.layer),
    "batch_norm": Row(_batch_norm),
}
